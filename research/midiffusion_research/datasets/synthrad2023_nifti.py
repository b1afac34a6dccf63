"""SynthRAD2023 task 1, brain: co-registered CT and T1-weighted MR of the head, as distributed.

Layout: `Task1/brain/<1B[ABC]nnn>/{ct,mr,mask}.nii.gz`, the three on one grid; CT in HU, mask 1 in
the patient's outline, in which alone figures are taken and the MR percentile too. The compact form
of the same subjects, one slice each, is `synthrad2023_brain`.

Data: doi:10.5281/zenodo.7260705 (CC BY-NC 4.0), Thummerer et al., Med Phys 2023;50:4664.
Split: by subject, `splits.json`; subjects that it does not name are not used.
Preprocessing: see `volumes`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume

from midiffusion_research.datasets.collections import frozen_split

from .subject import Subject, chosen
from .volumes import HEAD_MM, SIZES, each, model_units, paired, read

name = "synthrad2023-nifti"
training = name
directions = ("mr:ct", "ct:mr")
bundles = {"ct": "ct", "mr": "t1"}
sizes = SIZES

_FILES = ("ct.nii.gz", "mr.nii.gz", "mask.nii.gz")


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the subjects' folders, or `brain` or `Task1/brain` that
    do."""
    source, target = (modality.upper() for modality in chosen(direction, directions, name))
    ids = dict(zip(("train", "val"), frozen_split("synthrad2023_brain"), strict=True))[split]
    below = (root / "Task1" / "brain", root / "brain")
    folder = next((place for place in below if place.is_dir()), root)
    missing = [f"{s}/{f}" for s in ids for f in _FILES if not (folder / s / f).is_file()]
    if missing:
        raise InvalidData(
            f"{folder} lacks {len(missing)} of the {len(ids) * len(_FILES)} files of the {split} "
            f"subjects, for example {missing[0]}; give the folder of Task1 as --data."
        )

    def subject(case: str) -> Subject:
        volumes = {m: read(folder / case / f"{m.lower()}.nii.gz", m) for m in ("CT", "MR")}
        mask = read(folder / case / "mask.nii.gz", "")
        for modality, volume in volumes.items():
            if volume.data.shape != mask.data.shape or not np.allclose(
                volume.ijkToRAS, mask.ijkToRAS, atol=1e-2
            ):
                raise InvalidData(
                    f"{modality} and mask in {folder / case} are not on one grid; download this "
                    "subject again."
                )
        inside = mask.data > 0
        units = {m: _outside_is_air(model_units(v, inside), inside) for m, v in volumes.items()}
        return paired(
            case,
            units[source],
            units[target],
            units[target],
            split=split,
            field_mm=HEAD_MM,
            mask=Volume(inside.astype(np.float32), mask.ijkToRAS),
        )

    return each(name, ids[:most], subject)


def _outside_is_air(volume: Volume, inside: np.ndarray) -> Volume:
    """0 outside the patient's outline: there are couch, mask and frame, in one modality alone."""
    return Volume(np.where(inside, volume.data, np.float32(0)), volume.ijkToRAS, volume.modality)
