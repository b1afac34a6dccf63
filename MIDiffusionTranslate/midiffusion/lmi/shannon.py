"""The fixed-bin estimator: joint histograms of kernel responses, as in the paper, differentiable.

Every sample spreads a mass of 1 over 27 bins on [0, 1] in proportion to a Gaussian about its
value; a patch's joint histogram is the mean over its samples of the outer products of the two
images' responses, its marginals are the mean responses; I = H(u) + H(v) - H(u, v) in nats. Since
every mass is 1, the marginals are those of the joint: 0 <= I <= min(H(u), H(v)) holds exactly.

Values outside [0, 1] are drawn in smoothly, to at most one bandwidth beyond the ends (`_drawn_in`).
Without that, a noisy value's response is a single edge bin (or, unnormalised, no bin at all) and a
patch of such values has no entropy but its pattern: normalised information goes to its maximum.
With it, every response keeps the width of its kernel.

No joint histogram outlives its tile; for gradients, tiles are computed again on the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import fused
from .patches import SHIFTS, Neighbourhood, replicate, tiles

BINS = 27
TINY = 1e-12
TILE_PIXELS = 128


def maps(
    u: Tensor,
    v: Tensor,
    hood: Neighbourhood,
    bandwidth: float,
    sigma_v: Tensor | None,
    shift: bool,
    normalised: bool,
    entropy_u: Tensor | None = None,
) -> Tensor:
    """One map per slice, [B, H, W]; arguments as `kde.maps`, nats or [0, 1] when normalised."""
    if fused.serves(u, v):
        return fused.maps("shannon", u, v, hood, bandwidth, sigma_v, shift, normalised, BINS=BINS)
    reach = 1 if shift else 0
    width_u = u.new_full((len(u),), bandwidth)
    width_v = width_u if sigma_v is None else (bandwidth**2 + sigma_v**2).sqrt()
    how = _How(hood, width_u, width_v, shift, normalised, None if u.requires_grad else entropy_u)
    result: Tensor = _Maps.apply(replicate(u, hood.margin), replicate(v, hood.margin + reach), how)
    return result


@dataclass(frozen=True)
class _How:
    """What to compute of two padded images; nothing of it has a gradient."""

    hood: Neighbourhood
    width_u: Tensor
    width_v: Tensor
    shift: bool
    normalised: bool
    entropy_u: Tensor | None

    def tiles(self, u: Tensor) -> Iterator[tuple[tuple[slice, slice], ...]]:
        """Slices and rows of each tile: of the map, of the padded u, of the padded v."""
        margin, reach = 2 * self.hood.margin, 2 if self.shift else 0
        shape = u.shape[0], u.shape[1] - margin, u.shape[2] - margin
        for b, y in tiles(shape, TILE_PIXELS):
            yield (
                (b, y),
                (b, slice(y.start, y.stop + margin)),
                (b, slice(y.start, y.stop + margin + reach)),
            )

    def tile(self, u: Tensor, v: Tensor, at: tuple[slice, slice]) -> Tensor:
        """The part of the map at `at`, from the parts of the padded images it needs."""
        h_u = None if self.entropy_u is None else self.entropy_u[at]
        width_u, width_v = self.width_u[at[0]], self.width_v[at[0]]
        return _tile(u, v, width_u, width_v, self.hood, self.shift, self.normalised, h_u)


class _Maps(torch.autograd.Function):
    """The map of two padded images, tile by tile in both directions.

    Kept for the way back: the images. (With a graph of its own per tile, or even a list of results,
    memory would grow with the joint histograms of the whole image.)
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(u, v)
        ctx.how = how
        margin = 2 * how.hood.margin
        result = u.new_empty(u.shape[0], u.shape[1] - margin, u.shape[2] - margin)
        for at, at_u, at_v in how.tiles(u):
            result[at] = how.tile(u[at_u], v[at_v], at)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        u, v = ctx.saved_tensors
        grad_u, grad_v = torch.zeros_like(u), torch.zeros_like(v)
        for at, at_u, at_v in ctx.how.tiles(u):
            part_u, part_v = (x.detach().requires_grad_() for x in (u[at_u], v[at_v]))
            with torch.enable_grad():
                value = ctx.how.tile(part_u, part_v, at)
            parts = torch.autograd.grad(value, (part_u, part_v), gradient[at])
            grad_u[at_u] += parts[0]
            grad_v[at_v] += parts[1]
        return grad_u, grad_v, None


def entropies(u: Tensor, hood: Neighbourhood, bandwidth: float) -> Tensor:
    """H(u) around every pixel, nats: [B, H, W] -> [B, H, W]."""
    width = u.new_full((len(u),), bandwidth)
    padded = replicate(u, hood.margin)
    result = torch.empty_like(u)
    for b, y in tiles((u.shape[0], u.shape[1], u.shape[2]), TILE_PIXELS):
        response = responses(padded[b, y.start : y.stop + 2 * hood.margin], width[b])
        windows = _windows(response, hood, 0, 0, (y.stop - y.start, u.shape[2]))
        result[b, y] = _entropy(windows.mean(-2))
    return result


def responses(image: Tensor, width: Tensor) -> Tensor:
    """Mass of every value in every bin: [B, ...] and kernel widths [B] -> [B, ..., BINS]."""
    width = width.view(-1, *[1] * (image.ndim - 1))
    centres = torch.linspace(0, 1, BINS, dtype=image.dtype, device=image.device)
    distance = (_drawn_in(image, width)[..., None] - centres) / width[..., None]
    return torch.softmax(-0.5 * distance**2, dim=-1)


def _drawn_in(image: Tensor, width: Tensor) -> Tensor:
    """The identity on [0, 1], with tails that approach -width and 1 + width; slope continuous."""
    inside = image.clamp(0, 1)
    beyond = image - inside
    return inside + beyond.sign() * width * -torch.expm1(-beyond.abs() / width)


def _tile(
    u: Tensor,
    v: Tensor,
    width_u: Tensor,
    width_v: Tensor,
    hood: Neighbourhood,
    shift: bool,
    normalised: bool,
    h_u: Tensor | None,
) -> Tensor:
    """The map of padded images, [b, h, w]."""
    reach = 1 if shift else 0
    size = u.shape[1] - 2 * hood.margin, u.shape[2] - 2 * hood.margin
    windows_u = _windows(responses(u, width_u), hood, 0, 0, size)
    response_v = responses(v, width_v)
    if h_u is None:
        h_u = _entropy(windows_u.mean(-2))
    found: Tensor | None = None
    for dy, dx in SHIFTS if shift else ((0, 0),):
        windows_v = _windows(response_v, hood, dy + reach, dx + reach, size)
        h_v = _entropy(windows_v.mean(-2))
        joint = windows_u.transpose(-1, -2) @ windows_v / hood.size**2
        information = (h_u + h_v - _entropy(joint.flatten(-2))).clamp(min=0)
        value = 2 * information / (h_u + h_v).clamp(min=TINY) if normalised else information
        found = value if found is None else torch.maximum(found, value)
    assert found is not None
    return found


def _windows(
    response: Tensor, hood: Neighbourhood, top: int, left: int, size: tuple[int, int]
) -> Tensor:
    """Responses of every sample of every pixel's patch, [b, *size, samples, BINS]."""
    return torch.stack(
        [
            response[:, top + y : top + y + size[0], left + x : left + x + size[1]]
            for y, x in hood.corners
        ],
        dim=3,
    )


def _entropy(density: Tensor) -> Tensor:
    # TINY keeps the slope finite at bins that underflow to 0; its effect is below 1e-9.
    return -(density * (density + TINY).log()).sum(-1)
