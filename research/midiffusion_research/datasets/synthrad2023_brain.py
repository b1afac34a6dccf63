"""SynthRAD2023 task 1: co-registered CT and T1-weighted MR of the head, in the compact form.

The middle axial slice of each subject, from `axial_{0,1,2}.webp` (192 x 192 pixels below one
another: CT, MR, patient mask) and `axial_ids.json` (the subject of each row over the three
parts). CT is stored as (HU + 1000) / 12, so divided by 255 it is in model units; MR likewise with
its 99.5th percentile inside the head at 255. The 192 pixels are averaged down to 128 by area.
One slice per subject: no flicker figure.

Data: doi:10.5281/zenodo.7260705 (CC BY-NC 4.0), Thummerer et al., Med Phys 2023;50:4664.
Split: by subject, `splits.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume

from midiffusion_research.datasets.collections import SYNTHRAD_PIXEL_MM, frozen_split, read_sprite

from .sprites import find_folder, radiological
from .subject import Subject, area_average, chosen, head_mask

name = "synthrad2023-brain"
training = name
directions = ("mr:ct", "ct:mr")
bundles = {"ct": "ct", "mr": "t1"}
sizes = (128, 64)

_CHANNELS = {"ct": 0, "mr": 1}
_PARTS = 3
_STORED_PIXELS = 192
_PIXELS = 128


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the parts, or a folder `synthrad2023_brain` that does."""
    source, target = chosen(direction, directions, name)
    wanted = dict(zip(("train", "val"), frozen_split("synthrad2023_brain"), strict=True))[split]
    parts = [f"axial_{part}.webp" for part in range(_PARTS)]
    folder = find_folder(root, "synthrad2023_brain", [*parts, "axial_ids.json"])
    rows = {subject: row for row, subject in enumerate(_read_ids(folder / "axial_ids.json"))}
    slices = np.concatenate([read_sprite(folder / part, _STORED_PIXELS) for part in parts])
    missing = [subject for subject in wanted if rows.get(subject, len(slices)) >= len(slices)]
    if missing:
        raise InvalidData(
            f"{folder} has no slice of {len(missing)} of the subjects of the frozen split, for "
            f"example {missing[0]}; use the complete collection."
        )
    return [_subject(slices[rows[s]], s, source, target) for s in wanted[:most]]


def _subject(stored: np.ndarray, subject: str, source: str, target: str) -> Subject:
    channels = {
        key: area_average(stored[None, ..., channel], _PIXELS) / np.float32(255)
        for key, channel in _CHANNELS.items()
    }
    wanted = channels[target]
    pixel_mm = SYNTHRAD_PIXEL_MM * _STORED_PIXELS / _PIXELS
    return Subject(
        id=subject,
        source=Volume(channels[source], radiological(pixel_mm), source.upper()),
        target=wanted,
        head=head_mask(wanted, target.upper()),
        target_modality=target.upper(),
    )


def _read_ids(path: Path) -> list[str]:
    try:
        ids = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidData(f"{path} is not a list of subjects: {error}") from error
    if not isinstance(ids, list) or not all(isinstance(subject, str) for subject in ids):
        raise InvalidData(f"{path} is not a list of subjects.")
    return ids
