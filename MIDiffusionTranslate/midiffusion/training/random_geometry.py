"""Random geometry of real training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def _uniform(size: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator) * (high - low) + low


@dataclass(frozen=True)
class RandomGeometry:
    """In-plane rotation, scale, shift and mirroring of target and source alike.

    Args:
        rotation_deg: largest rotation either way.
        scale: largest relative change of size; covers error in the assumed pixel size.
        aspect: largest relative change of one axis against the other.
        shift: largest shift, as a fraction of the image side.
        flip: mirror left and right in half of the cases.
    """

    rotation_deg: float = 15.0
    scale: float = 0.15
    aspect: float = 0.06
    shift: float = 0.06
    flip: bool = True

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random affine maps from output to input in normalised coordinates, [count, 2, 3]."""
        angle = _uniform((count,), -1, 1, generator) * math.radians(self.rotation_deg)
        size = torch.exp(_uniform((count,), -self.scale, self.scale, generator))
        stretch = torch.exp(_uniform((count,), -self.aspect, self.aspect, generator))
        shift = _uniform((count, 2), -2 * self.shift, 2 * self.shift, generator)
        mirror = torch.ones(count)
        if self.flip:
            mirror = 1.0 - 2.0 * (torch.rand(count, generator=generator) < 0.5)
        cos, sin = angle.cos(), angle.sin()
        rows = (
            torch.stack((mirror * size * stretch * cos, -size * sin, shift[:, 0]), dim=1),
            torch.stack((mirror * size * stretch * sin, size * cos, shift[:, 1]), dim=1),
        )
        return torch.stack(rows, dim=1)

    @staticmethod
    def apply(images: Tensor, theta: Tensor) -> Tensor:
        """Resample images [B, 1, H, W] through `theta` [B, 2, 3]; outside is air (0)."""
        grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
        # Bicubic: a bilinear target would teach the model to generate blurred images.
        return F.grid_sample(images, grid, "bicubic", "zeros", align_corners=False).clamp(0.0, 1.25)
