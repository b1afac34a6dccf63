"""Local mutual information as it is defined, written to be read: unfold, then formula by formula.

Slow and hungry on purpose: for every pixel the whole joint density is written out, one slice at a
time. The tests compare the layer with it, and `midiffusion-research lmi`
measures them against it.

    LMI(u, v)(i) = max over k in Z of I(u on N(i); v on N(i + k)),  I = H(u) + H(v) - H(u, v)

arXiv 2301.13743, our reading: docs/lmi.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def definition(
    u: Tensor,
    v: Tensor,
    *,
    size: int = 3,
    dilation: int = 1,
    bandwidth: float = 0.04,
    search: str = "none",
    normalised: bool = True,
    sigma_v: float = 0.0,
) -> Tensor:
    """LMI of two images [H, W] -> [H, W]; arguments as `LocalMutualInformation`."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)] if search == "shift" else [(0, 0)]
    patches_u = _patches(u, size, dilation, (0, 0))
    candidates = []
    for shift in shifts:
        patches_v = _patches(v, size, dilation, shift)
        h_u, h_v, h_joint = _entropies(patches_u, patches_v, bandwidth, sigma_v)
        value = (h_u + h_v - h_joint).clamp(min=0)
        candidates.append(2 * value / (h_u + h_v).clamp(min=1e-12) if normalised else value)
    return torch.stack(candidates).amax(0).view_as(u)


def _patches(image: Tensor, size: int, dilation: int, shift: tuple[int, int]) -> Tensor:
    """The samples round every pixel moved by `shift`, [M, size^2]; the border is repeated."""
    margin = (size // 2) * dilation + 1
    padded = F.pad(image[None, None], (margin,) * 4, mode="replicate")
    dy, dx = shift
    rows, columns = padded.shape[2:]
    moved = padded[:, :, 1 + dy : rows - 1 + dy, 1 + dx : columns - 1 + dx]
    return F.unfold(moved, size, dilation=dilation)[0].T


def _entropies(u: Tensor, v: Tensor, h: float, sigma_v: float) -> tuple[Tensor, Tensor, Tensor]:
    """Entropies in nats from kernels between the samples of a patch."""
    g_u = torch.exp(-((u[:, :, None] - u[:, None, :]) ** 2) / (2 * h**2))
    g_v = torch.exp(-((v[:, :, None] - v[:, None, :]) ** 2) / (2 * (h**2 + sigma_v**2)))

    def entropy(g: Tensor) -> Tensor:
        return -g.mean(2).log().mean(1)

    return entropy(g_u), entropy(g_v), entropy(g_u * g_v)
