"""Self-made sources: real images of one contrast, shown in contrasts that were never acquired.

The backbone draws all its contrasts from a real image. A random one of them, or a random mixture,
serves as the source of that image in training: aligned, of any contrast, and no pair of real images
is needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.intensity import CT_WINDOW
from .synthetic_heads import CONTRASTS, Draws, SyntheticHeads, acquired

_AIR = 0.03  # model units
_TEXTURE = 0.2  # largest share of the real image's own texture, either sign


def ct_source(image: Tensor) -> Tensor:
    """A CT in the target's units, (HU + 1000) / 3060, as the pipeline shows a CT to the network."""
    hu, shown = (torch.tensor(values) for values in CT_WINDOW)
    positions = (hu + 1000) / 3060
    index = torch.bucketize(image, positions).clamp(1, len(positions) - 1)
    low, high = positions[index - 1], positions[index]
    share = ((image - low) / (high - low)).clamp(0, 1)
    return shown[index - 1] + share * (shown[index] - shown[index - 1])


def self_made_sources(
    real: Tensor, drawn: Tensor, heads: SyntheticHeads, generator: torch.Generator
) -> Tensor:
    """A source of random contrast for each real image.

    Args:
        real: [B, 1, H, W], model units, air 0.
        drawn: the backbone's outputs for them, [B, 6, H, W].
        heads: its ranges for noise, bias field and so on.
        generator: every random number comes from it.

    Returns:
        [B, 1, H, W] in [0, 1.25], model units, air 0.
    """
    g, count = generator, len(real)
    contrasts = drawn[:, : len(CONTRASTS)].clamp(0, 1.25)
    weights = torch.randn(count, len(CONTRASTS), generator=g)
    weights = weights * (torch.rand(count, len(CONTRASTS), generator=g) < 0.6)
    chosen = torch.randint(len(CONTRASTS), (count,), generator=g)
    single = F.one_hot(chosen, len(CONTRASTS)).float()
    pure = (torch.rand(count, 1, generator=g) < 0.5).float()
    weights = pure * single + (1 - pure) * weights
    mixed = (weights[:, :, None, None] * contrasts).sum(1, keepdim=True)
    head = (real > _AIR).float()
    lowest = (mixed * head + (1 - head) * 9).amin((2, 3), keepdim=True).clamp(max=0)
    fine = real - F.avg_pool2d(real, 5, 1, 2)
    strength = _TEXTURE * torch.rand(count, 1, 1, 1, generator=g)
    sign = torch.randn(count, 1, 1, 1, generator=g)
    source = ((mixed - lowest + strength * sign * fine) * head).clamp(min=0)
    return acquired(heads, source, Draws(count, g))
