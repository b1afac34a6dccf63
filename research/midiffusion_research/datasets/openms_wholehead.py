"""Whole heads of patients with multiple sclerosis: co-registered volumes, for evaluation only.

`<subject>_<MODALITY>.nii.gz`, 1 mm in plane and 3 to 4 mm slices, every modality of a subject on
one grid, 8 bit with 255 at the 99.5th percentile inside the head. Scored on their own grid, with
flicker.

The data depart from what the protocol expects in two ways. In p01 and p19 the FLAIR is
fat-suppressed (dark scalp, so the brain takes the whole range), in p20 it is not: no translation
can know that, and identity scores 9 dB on the former and 19 dB on the latter. And these pictures
keep the noise of the air, which exceeds the 3 % of the head mask in p19: the mask is confined to
the surroundings of tissue here.

Data: Lesjak et al., Neuroinformatics 2016;14:403 (CC BY). No training subjects: what learns here
has to learn from another collection.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData, MIDiffusionError
from midiffusion.images.volume import Volume

from ..metrics import dilate, erode
from .subject import FloatStack, MaskStack, Subject, chosen, head_mask

name = "openms-wholehead"
# The bundles for T1 and FLAIR learn from this one.
training = "tcga-lgg"
directions = ("t1:flair", "t2:flair", "flair:t1", "t2:t1", "t1:t2", "flair:t2")
bundles = {"t1": "t1", "flair": "flair"}
sizes: tuple[int, ...] = ()

# Share of the brightest tissue that noise never reaches; pixels are 1 mm.
_TISSUE = 0.15
_CAVITY_MM, _RIM_MM = 8, 4


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
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
            f"<subject>{ending}; give the folder of the whole-head volumes as --data."
        )
    return [_subject(folder, subject, source.upper(), target.upper()) for subject in both[:most]]


def _head(target: FloatStack, modality: str) -> MaskStack:
    """The protocol's head mask without the noise in air: within 4 mm of tissue that is clearly
    bright, the dark cavities of up to 8 mm in that tissue being closed first."""
    tissue = target > _TISSUE
    return head_mask(target, modality) & erode(dilate(tissue, _CAVITY_MM), _CAVITY_MM - _RIM_MM)


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
        head=_head(fixed.data, target),
        contiguous=True,
    )


def _read(path: Path, modality: str) -> Volume:
    from midiffusion.images.io import read_volume

    try:
        volume = read_volume(path)
    except MIDiffusionError as error:
        raise InvalidData(str(error)) from error
    return Volume(volume.data.astype(np.float32) / np.float32(255), volume.ijkToRAS, modality)
