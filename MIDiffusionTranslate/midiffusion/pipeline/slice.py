"""Step `slice`: the planes in which the network sees the source.

Thick slices are translated in the plane in which they were acquired, whatever that is. A volume
with voxels of about the same size in all directions is cut in all three planes; their results are
averaged (view aggregation, Henschel et al., FastSurfer, NeuroImage 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..images.anatomy import SOLID_HU, without_couch
from ..images.grid import SliceGrid
from ..images.intensity import CT_WINDOW
from ..images.placement import is_sheared, slice_axis
from ..images.volume import Volume
from .case import Case, Stack

PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Slice:
    """isotropic_ratio: of the largest to the smallest spacing, up to which a volume counts as
    isotropic. smallest_mm: extent that it needs in every direction."""

    isotropic_ratio: float = 1.6
    smallest_mm: float = 80.0

    name: ClassVar[str] = "slice"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return True

    def run(self, case: Case) -> dict[str, Any]:
        case.stacks = [self._stack(case, plane) for plane in self.planes(case.source)]
        return {"planes": [stack.plane for stack in case.stacks]}

    def planes(self, volume: Volume) -> tuple[str, ...]:
        """All three planes of an isotropic volume, else that of its slices. A sheared volume has
        right angles in the plane of its slices alone."""
        spacing = np.array(volume.spacing_mm)
        extent = spacing * volume.data.shape[::-1]
        thick = spacing.max() > self.isotropic_ratio * spacing.min()
        sheared = is_sheared(volume.ijkToRAS)
        if not (thick or sheared) and extent.min() >= self.smallest_mm:
            return PLANES
        across = slice_axis(volume.ijkToRAS, volume.data.shape, self.isotropic_ratio)
        normal = np.linalg.inv(volume.ijkToRAS[:3, :3])[across]
        return (("sagittal", "coronal", "axial")[int(np.abs(normal).argmax())],)

    @staticmethod
    def _stack(case: Case, plane: str) -> Stack:
        assert case.units is not None
        grid = SliceGrid.of(case.source, case.pixel_mm, plane, case.model.multiple)
        # Cubic resampling swings below air beside bright skin; nothing is darker than air.
        slices = torch.from_numpy(grid.to_slices(case.units)).clamp_(min=0)[:, None]
        if case.source_is_ct:
            solid = float(np.interp(SOLID_HU, *CT_WINDOW))
            slices = without_couch(slices, case.pixel_mm, solid)
        between_mm = case.source.spacing_mm[::-1][grid.order[0]]
        return Stack(plane, grid, slices.to(case.device), between_mm / case.pixel_mm)
