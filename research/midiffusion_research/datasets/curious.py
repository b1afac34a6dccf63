"""CuRIOUS (RESECT): T1 and T2-FLAIR of 23 heads with low-grade glioma, before surgery.

Layout: `NIFTI/Case<n>/MRI/Case<n>-<T1|FLAIR>.nii.gz` of the RESECT archive, from which the CuRIOUS
challenges took their training cases; the ultrasound and landmarks beside it are not read. T1 is
registered to FLAIR (`registration`), since nothing says that the two are aligned; the slices are
those of FLAIR. Whether T1 is contrast-enhanced is not confirmed.

Data: doi:10.11582/2017.00004 (CC BY 4.0), Xiao et al., Med Phys 2017;44:3875,
doi:10.1002/mp.12268. Split: the cases whose number leaves 1 when divided by 5 are for validation
(1, 6, 11, 16, 21, 26 as far as they exist). Preprocessing: see `volumes`.
"""

from __future__ import annotations

import re
from pathlib import Path

from midiffusion.errors import InvalidData

from .registration import registered
from .subject import Subject, chosen
from .volumes import HEAD_MM, SIZES, each, model_units, paired, read

name = "curious"
training = name
directions = ("t1:flair", "flair:t1")
bundles = {"t1": "t1", "flair": "flair"}
sizes = SIZES

_FILE = re.compile(r"(Case\d+)-(T1|FLAIR)\.nii\.gz")


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the files, at any depth."""
    source, target = (modality.upper() for modality in chosen(direction, directions, name))
    cases: dict[str, dict[str, Path]] = {}
    for path in sorted(root.rglob("Case*.nii.gz")):
        if match := _FILE.fullmatch(path.name):
            files = cases.setdefault(match[1], {})
            if match[2] in files:
                raise InvalidData(
                    f"{path.name} is there twice: {files[match[2]]} and {path}; keep one."
                )
            files[match[2]] = path
    if not cases:
        raise InvalidData(
            f"{root} holds no Case<n>/MRI/Case<n>-T1.nii.gz and Case<n>-FLAIR.nii.gz; give the "
            "folder of RESECT as --data."
        )
    lacking = [
        f"{case} lacks {m}" for case in cases for m in ("T1", "FLAIR") if m not in cases[case]
    ]
    if lacking:
        raise InvalidData(
            f"{root} is incomplete: {', '.join(lacking[:5])}; unpack these cases in full."
        )

    ids = [case for case in cases if (int(case[len("Case") :]) % 5 == 1) == (split == "val")]
    if not ids:
        raise InvalidData(
            f"{root} holds {', '.join(cases)} and none of the {split} cases (for validation: 1, 6, "
            "11, 16, 21, 26); unpack all of RESECT."
        )

    def subject(case: str) -> Subject:
        files = cases[case]
        fixed = read(files["FLAIR"], "FLAIR")
        moved = registered(read(files["T1"], "T1"), fixed, (files["T1"], files["FLAIR"]))
        units = {"T1": model_units(moved), "FLAIR": model_units(fixed)}
        return paired(
            case, units[source], units[target], units["FLAIR"], split=split, field_mm=HEAD_MM
        )

    return each(name, ids[:most], subject)
