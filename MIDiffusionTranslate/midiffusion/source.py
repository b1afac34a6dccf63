"""A source as every model takes it: on one scale, without its noise, on the model's slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .grid import SliceGrid
from .head import SOLID_HU, without_couch
from .intensity import CT_WINDOW, SourceIntensity, is_ct
from .source_noise import without_noise
from .volume import Volume

_LEAST_SIDE = 16  # voxels: what is narrower is no slice


@dataclass(frozen=True, eq=False)
class Source:
    """units: the volume [k, j, i] in model units, float32, [0, 1.25], air at 0. is_ct: whether it
    is in Hounsfield units; whatever is not is treated as MR. noise: standard deviation of the noise
    that an MR came with, model units; None for a CT, whose noise is left as it is."""

    units: np.ndarray
    is_ct: bool
    noise: float | None

    @classmethod
    def of(cls, volume: Volume) -> Source:
        """A volume of any modality that `Volume.check` accepts."""
        units, _ = SourceIntensity().forward(volume.data, volume.modality)
        if is_ct(volume.data, volume.modality):
            return cls(units, True, None)
        spacing_mm = volume.spacing_mm[::-1]
        across = _slice_axis(units.shape, spacing_mm)
        stack = np.moveaxis(units, across, 0)
        clean, noise = without_noise(stack, max(np.delete(spacing_mm, across)))
        if clean is not stack:
            del units, stack
            # Noise had its share in what was taken for air and for the bright end.
            units, scale = SourceIntensity().forward(np.moveaxis(clean, 0, across), "MR")
            noise /= scale
        return cls(units, False, noise)

    def slices(self, grid: SliceGrid, pixel_mm: float, place: torch.device) -> Tensor:
        """[S, 1, H, W] in model units on `place`. grid: of the volume, in pixels of this size."""
        # Cubic resampling swings below air beside bright skin; nothing is darker than air.
        slices = torch.from_numpy(grid.to_slices(self.units)).clamp_(min=0)[:, None]
        return self.without_couch(slices, pixel_mm).to(place)

    def without_couch(self, slices: Tensor, pixel_mm: float) -> Tensor:
        """Slices [S, 1, H, W] of `units`, in pixels of this size; those of an MR as they are."""
        if not self.is_ct:
            return slices
        return without_couch(slices, pixel_mm, float(np.interp(SOLID_HU, *CT_WINDOW)))


def _slice_axis(shape: Sequence[int], spacing_mm: Sequence[float]) -> int:
    """The axis [k, j, i] across which slices were acquired: that of the largest spacing (slices are
    rarely thinner than their pixels), the first of those that are as good as equal."""
    wide = [axis for axis in range(3) if min(np.delete(shape, axis)) >= _LEAST_SIDE] or [0]
    largest = max(spacing_mm[axis] for axis in wide)
    return next(axis for axis in wide if spacing_mm[axis] > 0.95 * largest)
