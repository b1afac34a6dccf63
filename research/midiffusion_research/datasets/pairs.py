"""A plain folder of pairs: one's own data.

Layout, in one sentence: the two images of a subject are `<subject>_<modality>.nii.gz` side by side
in the folder, aligned by their headers, with the modality one of those of `MODALITIES` in upper or
lower case (CT in HU).

The slices are those of the target, the field its whole width, and the source is resampled to them.
Subjects that lack one of the two modalities are left out. Split and preprocessing: by subject, see
`volumes`.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

from midiffusion.errors import InvalidData

from .subject import Subject, chosen
from .volumes import SIZES, each, in_part, model_units, paired, read

MODALITIES = ("t1", "flair", "t2", "pd", "t1c", "mr", "ct")

name = "pairs"
training = name
directions = tuple(f"{source}:{target}" for source, target in permutations(MODALITIES, 2))
bundles = {"t1": "t1", "flair": "flair", "mr": "t1", "ct": "ct"}
sizes = SIZES

_ENDING = ".nii.gz"


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the files itself."""
    source, target = chosen(direction, directions, name)
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(root.glob(f"*{_ENDING}")):
        subject, _, modality = path.name[: -len(_ENDING)].rpartition("_")
        files = found.setdefault(modality.lower(), {})
        if subject in files:
            raise InvalidData(f"{files[subject].name} and {path.name} in {root} are one; keep one.")
        files[subject] = path
    sources, targets = found.get(source, {}), found.get(target, {})
    both = sorted(set(sources) & set(targets))
    if not both:
        kinds = ", ".join(f"{len(files)} of {m or 'no modality'}" for m, files in found.items())
        raise InvalidData(
            f"{root} holds no pair of files <subject>_{source}{_ENDING} and "
            f"<subject>_{target}{_ENDING} (found: {kinds or 'no ' + _ENDING + ' file'}); give the "
            "folder of such pairs as --data."
        )

    def subject_of(subject: str) -> Subject:
        moving = model_units(read(sources[subject], source.upper()))
        fixed = model_units(read(targets[subject], target.upper()))
        return paired(subject, moving, fixed, fixed, split=split, field_mm=None)

    return each(name, in_part(both, split)[:most], subject_of)
