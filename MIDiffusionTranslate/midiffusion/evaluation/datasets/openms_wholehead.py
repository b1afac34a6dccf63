"""Whole heads of patients with multiple sclerosis: co-registered volumes, for evaluation only.

`<subject>_<MODALITY>.nii.gz`, 1 mm in plane and 3 to 4 mm slices, every modality of a subject on
one grid, 8 bit with 255 at the 99.5th percentile inside the head. Scored on their own grid, with
flicker.

Data: Lesjak et al., Neuroinformatics 2016;14:403 (CC BY). No training subjects: what learns here
has to learn from another collection.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from midiffusion.errors import InvalidData, MIDiffusionError
from midiffusion.volume import Volume

from .subject import Subject, chosen, head_mask

name = "openms-wholehead"
# The bundles for T1 and FLAIR learn from this one.
training = "tcga-lgg"
directions = ("t1:flair", "t2:flair", "flair:t1", "t2:t1", "t1:t2", "flair:t2")
sizes: tuple[int, ...] = ()


def load(root: Path, direction: str, split: str) -> list[Subject]:
    """See `Dataset.load`; `split` "train" is empty. Subjects that lack one of the two modalities
    are left out. `root` holds the volumes, or a folder `openms_wholehead` that does."""
    source, target = chosen(direction, directions, name)
    if split == "train":
        return []
    folder = root / "openms_wholehead" if (root / "openms_wholehead").is_dir() else root
    ending = f"_{target.upper()}.nii.gz"
    subjects = [path.name[: -len(ending)] for path in sorted(folder.glob(f"*{ending}"))]
    both = [s for s in subjects if (folder / f"{s}_{source.upper()}.nii.gz").is_file()]
    if not both:
        raise InvalidData(
            f"{folder} holds no pair of files <subject>_{source.upper()}.nii.gz and "
            f"<subject>{ending}; give the folder of the whole-head volumes as --root."
        )
    return [_subject(folder, subject, source.upper(), target.upper()) for subject in both]


def _subject(folder: Path, subject: str, source: str, target: str) -> Subject:
    moving = _read(folder / f"{subject}_{source}.nii.gz", source)
    fixed = _read(folder / f"{subject}_{target}.nii.gz", target)
    if moving.data.shape != fixed.data.shape or not np.allclose(
        moving.ijkToRAS, fixed.ijkToRAS, atol=1e-2
    ):
        raise InvalidData(
            f"{source} and {target} of {subject} in {folder} are not on one grid; resample one of "
            "them onto the other first."
        )
    return Subject(
        id=subject,
        source=moving,
        target=fixed.data,
        head=head_mask(fixed.data, target),
        contiguous=True,
    )


def _read(path: Path, modality: str) -> Volume:
    from midiffusion.io import read_volume

    try:
        volume = read_volume(path)
    except MIDiffusionError as error:
        raise InvalidData(str(error)) from error
    return Volume(volume.data.astype(np.float32) / np.float32(255), volume.ijkToRAS, modality)
