"""The published code's LMI as it is defined, slow and readable; `published_lmi` is fast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 27


def published_definition(
    u: Tensor, v: Tensor, shift: bool = True, normalised: bool = True
) -> Tensor:
    """LMI of two images [H, W] in [0, 1] -> [H, W]: 27 bins of 8 grey levels, mosaic search; bits,
    or 2 I / (H1 + H2)."""
    centres = torch.linspace(0, 255, BINS, dtype=u.dtype, device=u.device)

    def levels(x: Tensor) -> Tensor:
        return (x * 255).to(torch.int32).to(x.dtype)

    def responses(x: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((x[:, :, None] - centres) / 8) ** 2)

    def density(p: Tensor) -> Tensor:
        return p / (p.sum(1, keepdim=True) + 1e-10)

    def entropy(p: Tensor) -> Tensor:
        return -(p * torch.log2(p + 1e-10)).sum(1)

    height, width = u.shape
    r_u = responses(F.unfold(levels(u)[None, None], 3, padding=1)[0].T)
    h_u = entropy(density(r_u.sum(1)))
    candidates = []
    for windows in _mosaic(levels(v)) if shift else [_mosaic(levels(v))[4]]:
        r_v = responses(windows)
        h_v = entropy(density(r_v.sum(1)))
        joint = torch.bmm(r_u.transpose(1, 2), r_v).flatten(1)
        value = h_u + h_v - entropy(density(joint))
        candidates.append(2 * (value + 1e-10) / (h_u + h_v + 1e-10) if normalised else value)
    return torch.stack(candidates).amax(0).view(height, width)


def _mosaic(image: Tensor) -> list[Tensor]:
    """Nine windows [M, 9]: the 3 x 3 patches of all pixels are laid side by side, with a frame of
    0, and a pixel's window starts one mosaic sample before, at or after its own patch."""
    height, width = image.shape
    patches = F.unfold(image[None, None], 3, padding=1).view(3, 3, height, width)
    mosaic = F.pad(patches.permute(2, 0, 3, 1).reshape(3 * height, 3 * width), (1, 1, 1, 1))
    return [
        mosaic[y : y + 3 * height, x : x + 3 * width]
        .reshape(height, 3, width, 3)
        .permute(0, 2, 1, 3)
        .reshape(-1, 9)
        for y in range(3)
        for x in range(3)
    ]
