"""Local mutual information as it is defined, written to be read: unfold, then formula by formula.

Slow and hungry on purpose: for every pixel the whole joint density is written out, one slice at a
time. The tests hold the estimators of this package against it, and `midiffusion-research lmi`
measures them against it.

    LMI(u, v)(i) = max over k in Z of I(u on N(i); v on N(i + k)),  I = H(u) + H(v) - H(u, v)

arXiv 2301.13743, our reading: docs/lmi.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 27


def definition(
    estimator: str,
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
    if estimator == "reference":
        return _reference(u, v, search == "shift", normalised)
    information = {"kde": _kde, "shannon": _shannon}[estimator]
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)] if search == "shift" else [(0, 0)]
    patches_u = _patches(u, size, dilation, (0, 0))
    candidates = []
    for shift in shifts:
        patches_v = _patches(v, size, dilation, shift)
        h_u, h_v, h_joint = information(patches_u, patches_v, bandwidth, sigma_v)
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


def _kde(u: Tensor, v: Tensor, h: float, sigma_v: float) -> tuple[Tensor, Tensor, Tensor]:
    """Entropies in nats from kernels between the samples of a patch."""
    g_u = torch.exp(-((u[:, :, None] - u[:, None, :]) ** 2) / (2 * h**2))
    g_v = torch.exp(-((v[:, :, None] - v[:, None, :]) ** 2) / (2 * (h**2 + sigma_v**2)))

    def entropy(g: Tensor) -> Tensor:
        return -g.mean(2).log().mean(1)

    return entropy(g_u), entropy(g_v), entropy(g_u * g_v)


def _shannon(u: Tensor, v: Tensor, h: float, sigma_v: float) -> tuple[Tensor, Tensor, Tensor]:
    """Entropies in nats from the kernel responses of fixed bins."""
    centres = torch.linspace(0, 1, BINS, dtype=u.dtype, device=u.device)

    def responses(x: Tensor, width: float) -> Tensor:
        above = 1 + width * (1 - torch.exp(-(x - 1).clamp(min=0) / width))
        below = -width * (1 - torch.exp(x.clamp(max=0) / width))
        x = torch.where(x > 1, above, torch.where(x < 0, below, x))
        kernel = torch.exp(-((x[:, :, None] - centres) ** 2) / (2 * width**2))
        return kernel / kernel.sum(2, keepdim=True)

    def entropy(p: Tensor) -> Tensor:
        return -torch.xlogy(p, p).flatten(1).sum(1)

    r_u, r_v = responses(u, h), responses(v, (h**2 + sigma_v**2) ** 0.5)
    joint = torch.einsum("mpb,mpc->mbc", r_u, r_v) / u.shape[1]
    return entropy(r_u.mean(1)), entropy(r_v.mean(1)), entropy(joint)


def _reference(u: Tensor, v: Tensor, shift: bool, normalised: bool) -> Tensor:
    """The published code's LMI, in bits: 27 bins of 8 grey levels, mosaic search."""
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
