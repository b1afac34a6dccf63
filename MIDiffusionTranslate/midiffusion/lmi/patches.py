"""Neighbourhoods, borders and tiles, shared by the estimators."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

SHIFTS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
"""The search set of search="shift", in pixels (row, column)."""


def replicate(image: Tensor, margin: int) -> Tensor:
    """Repeats the border pixels outwards: [B, H, W] -> [B, H + 2 margin, W + 2 margin]."""
    return F.pad(image[:, None], (margin,) * 4, mode="replicate")[:, 0]


def tiles(shape: tuple[int, int, int], pixels: int) -> Iterator[tuple[slice, slice]]:
    """Cuts [B, H, W] into blocks of whole slices, or of rows of one slice, of about `pixels`."""
    batch, height, width = shape
    slices = max(1, pixels // (height * width))
    rows = height if slices > 1 else max(1, min(height, pixels // width))
    for b in range(0, batch, slices):
        for y in range(0, height, rows):
            yield slice(b, min(b + slices, batch)), slice(y, min(y + rows, height))
