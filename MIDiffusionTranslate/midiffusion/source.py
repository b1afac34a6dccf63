"""A source as every model takes it: on one scale, without its noise, on the model's slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .denoising import without_noise
from .grid import SliceGrid
from .head import SOLID_HU, without_couch
from .intensity import CT_WINDOW, SourceIntensity, is_ct
from .volume import Volume


@dataclass(frozen=True)
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
        across = int(np.argmax(spacing_mm))  # slices are rarely thinner than their pixels
        stack = np.moveaxis(units, across, 0)
        clean, noise = without_noise(stack, max(np.delete(spacing_mm, across)))
        if clean is not stack:
            # Noise had its share in what was taken for air and for the bright end.
            units, _ = SourceIntensity().forward(np.moveaxis(clean, 0, across), "MR")
        return cls(units, False, noise)

    def slices(self, grid: SliceGrid, pixel_mm: float, place: torch.device) -> Tensor:
        """[S, 1, H, W] in model units on `place`. grid: of the volume, in pixels of this size."""
        # Cubic resampling swings below air beside bright skin; nothing is darker than air.
        slices = torch.from_numpy(grid.to_slices(self.units)).clamp_(min=0)[:, None]
        if self.is_ct:
            solid = float(np.interp(SOLID_HU, *CT_WINDOW))
            slices = without_couch(slices, pixel_mm, solid)
        return slices.to(place)
