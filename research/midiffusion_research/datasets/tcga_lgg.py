"""TCGA-LGG: co-registered T1 and FLAIR of heads with glioma, in the project's compact form.

One lossless RGB WebP per patient, the slices below one another, 128 x 128 pixels: T1, FLAIR, tumour
mask. The values are 8 bit, 255 being the 99.5th percentile inside the patient's head: divided by
255 they are model units. Inferior to superior, row 0 anterior, every few millimetres of the head,
so neighbouring slices are not neighbours for a flicker figure.

Data: The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2016.L4LTD3TK (CC BY 3.0), as packaged in
"LGG MRI Segmentation" (CC BY-NC-SA 4.0). Split: by patient, `training/splits.json`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from midiffusion.images.volume import Volume

from midiffusion_research.datasets.collections import TCGA_PIXEL_MM, frozen_split, read_sprite

from .sprites import find_folder, radiological
from .subject import Subject, chosen, head_mask

name = "tcga-lgg"
training = name
directions = ("t1:flair", "flair:t1")
bundles = {"t1": "t1", "flair": "flair"}
sizes = (128, 64)

_CHANNELS = {"t1": 0, "flair": 1}
_TUMOUR = 2
_PIXELS = 128


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the sprites, or a folder `tcga_lgg` that does."""
    source, target = chosen(direction, directions, name)
    ids = dict(zip(("train", "val"), frozen_split("tcga_lgg"), strict=True))[split]
    folder = find_folder(root, "tcga_lgg", [f"{subject}.webp" for subject in ids])
    return [_subject(folder, subject, source, target) for subject in ids[:most]]


def _subject(folder: Path, subject: str, source: str, target: str) -> Subject:
    slices = read_sprite(folder / f"{subject}.webp", _PIXELS)
    wanted = slices[..., _CHANNELS[target]] / np.float32(255)
    return Subject(
        id=subject,
        source=Volume(
            slices[..., _CHANNELS[source]] / np.float32(255),
            radiological(TCGA_PIXEL_MM),
            source.upper(),
        ),
        target=wanted,
        head=head_mask(wanted, target.upper()),
        tumour=slices[..., _TUMOUR] > 127,
        target_modality=target.upper(),
    )
