"""The two collections that ship as sprites of slices: pixel sizes, frozen splits, reading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData
from midiffusion.images.io import ENDINGS
from midiffusion.training.data import read_picture

# Mean adult head length (glabella to occiput, with skin, about 190 mm) over the median length of
# the heads in the training sprites. TCGA-LGG, above 5 % of white: 116 px, less about 2 px for the
# noses that some patients' slices show. SynthRAD, axial CT above -500 HU: 164 px.
TCGA_PIXEL_MM = 190.0 / 114.0
SYNTHRAD_PIXEL_MM = 190.0 / 164.0


def frozen_split(collection: str) -> tuple[list[str], list[str]]:
    """The frozen (training, validation) subject ids of "tcga_lgg" or "synthrad2023_brain"."""
    splits = json.loads(Path(__file__).with_name("splits.json").read_text())
    return splits[collection]["train"], splits[collection]["val"]


def holds_volumes(folder: Path) -> bool:
    """Whether files of volumes lie in the folder itself."""
    return any(path.name.lower().endswith(ENDINGS) for path in folder.iterdir())


def read_sprite(path: Path | str, size: int) -> np.ndarray:
    """Tiles of a sprite, [N, size, size, 3] uint8.

    Raises:
        InvalidData: not an image, or not a column of square tiles.
    """
    pixels = read_picture(Path(path), "RGB")
    if pixels.shape[1] != size or pixels.shape[0] % size:
        raise InvalidData(
            f"{path} is not made of {size} x {size} tiles (its shape is {pixels.shape})."
        )
    return pixels.reshape(-1, size, size, 3)
