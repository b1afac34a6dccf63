"""Gold Atlas: T1, T2 and deformably registered CT of 19 male pelves, as DICOM.

Layout: one folder per patient, `<site>_<nn>_P` (1_01_P to 3_04_P), with all `.dcm` files of that
patient in it or in folders below. Series are told apart by their tags: the CT registered to the MR
has modality CT and "CTtoMR" in its description, T1 and T2 have modality MR and "t1" or "t2" in
theirs, in upper or lower case; the CT as scanned and the structures are not read. Slices are put in
order by their positions: their numbers run the other way in the CT of site 2.

The slices are those of T2, onto which the collection registered the CT. T1 comes from the same
session, on a grid of its own, and is resampled by its header, not registered.

Data: doi:10.5281/zenodo.583096 (access on request; the terms come with it), Nyholm et al., Med
Phys 2018;45:1295, doi:10.1002/mp.12748. Split: every fifth of the 19 patients, from the third on,
is for validation (`VALIDATION`). Preprocessing: see `volumes`.
"""

from __future__ import annotations

import re
from pathlib import Path

from midiffusion.errors import InvalidData

from .dicom import Series, read_series, series_in
from .subject import Subject, chosen
from .volumes import SIZES, each, model_units, paired

name = "gold-atlas"
training = name
directions = ("t2:ct", "ct:t2", "t1:ct", "ct:t1", "t1:t2", "t2:t1")
bundles: dict[str, str] = {}  # those that ship are of heads
sizes = SIZES

PELVIS_MM = 448.0
VALIDATION = ("1_03_P", "1_08_P", "2_09_P", "3_03_P")

_PATIENT = re.compile(r"[1-3]_\d\d_P")
_SERIES = {"CT": ("CT", "cttomr"), "T1": ("MR", "t1"), "T2": ("MR", "t2")}


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the patients' folders."""
    source, target = (modality.upper() for modality in chosen(direction, directions, name))
    folders = {path.name: path for path in root.glob("*_P") if _PATIENT.fullmatch(path.name)}
    if not folders:
        raise InvalidData(
            f"{root} holds no patient's folder such as 1_01_P; unpack the patients of Gold Atlas, "
            "each into a folder of its own name, and give the folder round them as --data."
        )

    ids = [patient for patient in sorted(folders) if (patient in VALIDATION) == (split == "val")]
    if not ids:
        raise InvalidData(
            f"{root} holds {', '.join(sorted(folders))} and none of the {split} patients (for "
            f"validation: {', '.join(VALIDATION)}); unpack all 19 patients."
        )

    def subject(patient: str) -> Subject:
        found = series_in(folders[patient])
        # T2 gives the grid in every direction, so that figures of the six compare.
        units = {
            modality: model_units(read_series(_one(found, modality, folders[patient]), modality))
            for modality in dict.fromkeys((source, target, "T2"))
        }
        reference = units["T2"]
        return paired(
            patient, units[source], units[target], reference, split=split, field_mm=PELVIS_MM
        )

    return each(name, ids[:most], subject)


def _one(found: list[Series], modality: str, folder: Path) -> Series:
    dicom, word = _SERIES[modality]
    fits = [s for s in found if s.modality == dicom and word in s.description.lower()]
    if len(fits) != 1:
        listed = "; ".join(f"{s.modality} '{s.description}', {len(s.files)} files" for s in found)
        raise InvalidData(
            f"{folder} should hold one {dicom} series with '{word}' in its description, and holds "
            f"{len(fits)} (all: {listed or 'no DICOM series'}); unpack this patient in full."
        )
    return fits[0]
