"""Neighbourhoods, borders and tiles, shared by the estimators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

SHIFTS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
"""The search set of search="shift", in pixels (row, column)."""


@dataclass(frozen=True)
class Neighbourhood:
    """A square of `size` x `size` samples, `dilation` pixels apart."""

    size: int
    dilation: int

    @property
    def radius(self) -> int:
        """Samples from the centre to the edge."""
        return self.size // 2

    @property
    def margin(self) -> int:
        """Pixels from the centre to the edge."""
        return self.radius * self.dilation

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Row and column of every sample, counted from the first."""
        steps = range(0, self.size * self.dilation, self.dilation)
        return [(y, x) for y in steps for x in steps]


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
