"""The closed-form estimator: kernel density entropies of a patch at its own samples, without bins.

Within a patch of n samples, with g_pq = exp(-(u_p - u_q)^2 / 2 h^2):

    H(u) = -mean_p log mean_q g_pq,     H(u, v) the same with g_pq(u) g_pq(v),
    I = H(u) + H(v) - H(u, v) in nats,  normalised 2 I / (H(u) + H(v)).

Three things make it fast and one makes it exact in float32:

- a pair of samples depends only on the displacement between them, so the kernel is evaluated once
  per displacement and image (12 times for 3 x 3), not once per pair and patch (36);
- the sums over q are windows in the space of displacements, and windows are separable;
- two samples p share a logarithm, that of the product of their means (of more than two, the product
  may be too near 0 for the digits of its gap);
- everything is written with the *gap* g - 1 = expm1(...), so that the entropies of nearly flat
  patches, which are differences from zero, keep their digits, and those of flat ones are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .patches import SHIFTS, Neighbourhood, replicate, tiles

# Pixels worked on at once: on a CPU what the cache holds, on a GPU few launches.
TILE_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 22, "mps": 1 << 22}
Displacement = tuple[int, int]
Gaps = dict[Displacement, Tensor]


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
    """One map per slice, [B, H, W]: nats, or [0, 1] when normalised.

    Args:
        u, v: images, [B, H, W]. When they are one tensor and nothing is searched or widened, the
            kernels of u serve for both.
        hood: the neighbourhood.
        bandwidth: standard deviation h of the kernel, model units.
        sigma_v: [B], noise known to be in v: its kernel has sqrt(h^2 + sigma_v^2); or None.
        shift: maximum over the shifts of v by one pixel.
        normalised: 2 I / (H(u) + H(v)) in place of I.
        entropy_u: H(u), [B, H, W], if known; not needed where the kernels of u serve for both.
    """
    same = u is v and sigma_v is None and not shift
    reach = 1 if shift else 0
    factor_u = factor_v = u.new_full((len(u), 1, 1), -0.5 / bandwidth**2)
    if sigma_v is not None:
        factor_v = -0.5 / (bandwidth**2 + sigma_v[:, None, None] ** 2)
    padded_u = replicate(u, hood.margin)
    padded_v = replicate(v, hood.margin + reach)
    parts = []
    for b, y in tiles((u.shape[0], u.shape[1], u.shape[2]), TILE_PIXELS[u.device.type]):
        rows = slice(y.start, y.stop + 2 * hood.margin)
        size = (y.stop - y.start, u.shape[2])
        gaps_u = _gaps(padded_u[b, rows], hood, factor_u[b])
        h_u = _entropy(gaps_u, hood, size) if entropy_u is None else entropy_u[b, y]
        if same:
            gaps_v, h_v = gaps_u, h_u
        else:
            rows_v = slice(rows.start, rows.stop + 2 * reach)
            gaps_v = _gaps(padded_v[b, rows_v], hood, factor_v[b])
            h_v = _entropy(gaps_v, hood, (size[0] + 2 * reach, size[1] + 2 * reach))
        found: Tensor | None = None
        for dy, dx in SHIFTS if shift else ((0, 0),):
            top, left = dy + reach, dx + reach
            h_joint = _entropy(_joint(gaps_u, gaps_v, top, left), hood, size)
            h_here = h_v[:, top : top + size[0], left : left + size[1]]
            value = _information(h_u, h_here, h_joint, normalised)
            found = value if found is None else torch.maximum(found, value)
        assert found is not None
        parts.append(found)
    return _joined(parts, u)


def entropies(u: Tensor, hood: Neighbourhood, bandwidth: float) -> Tensor:
    """H(u) around every pixel, nats: [B, H, W] -> [B, H, W]."""
    factor = u.new_full((1, 1, 1), -0.5 / bandwidth**2)
    padded = replicate(u, hood.margin)
    parts = []
    for b, y in tiles((u.shape[0], u.shape[1], u.shape[2]), TILE_PIXELS[u.device.type]):
        gaps = _gaps(padded[b, y.start : y.stop + 2 * hood.margin], hood, factor)
        parts.append(_entropy(gaps, hood, (y.stop - y.start, u.shape[2])))
    return _joined(parts, u)


def _joined(parts: list[Tensor], like: Tensor) -> Tensor:
    """The tiles, in their order, as one stack of the shape of `like`."""
    return parts[0] if len(parts) == 1 else torch.cat([p.reshape(-1) for p in parts]).view_as(like)


def _displacements(hood: Neighbourhood) -> list[Displacement]:
    """Displacements between two samples, one of each pair of opposites, without zero."""
    reach = range(-2 * hood.radius, 2 * hood.radius + 1)
    return [(dy, dx) for dy in reach for dx in reach if dy > 0 or (dy == 0 and dx > 0)]


def _gaps(padded: Tensor, hood: Neighbourhood, factor: Tensor) -> Gaps:
    """g - 1 between every pixel and the one displaced from it, where both lie in `padded`."""
    height, width = padded.shape[1:]
    gaps = {}
    for dy, dx in _displacements(hood):
        y, x = dy * hood.dilation, dx * hood.dilation
        left, right = max(0, -x), min(width, width - x)
        here = padded[:, : height - y, left:right]
        there = padded[:, y:, left + x : right + x]
        difference = here - there
        gaps[dy, dx] = (difference * difference).mul_(factor).expm1()
    return gaps


def _joint(gaps_u: Gaps, gaps_v: Gaps, top: int, left: int) -> Gaps:
    """Gaps of the products of two images' kernels, where those of v begin at that corner."""
    joint = {}
    for d, gap in gaps_u.items():
        other = gaps_v[d][:, top : top + gap.shape[1], left : left + gap.shape[2]]
        joint[d] = (gap + other).addcmul_(gap, other)
    return joint


def _entropy(gaps: Gaps, hood: Neighbourhood, size: tuple[int, int]) -> Tensor:
    """-mean_p log(1 + mean_q gap_pq), [B, *size]: the sum over q is split into rows and columns."""
    radius, step, n = hood.radius, hood.dilation, hood.size**2
    height, width = size
    offsets = range(-radius, radius + 1)
    entropy: Tensor | None = None
    waiting: Tensor | None = None
    for py in offsets:
        columns = {}
        for dx in range(-2 * radius, 2 * radius + 1):
            # The samples p of this row whose patch reaches dx columns further.
            first, last = max(-radius, -radius - dx), min(radius, radius - dx)
            top, left = (py + radius) * step, (first + radius) * step
            extent = (height, width + (last - first) * step)
            columns[dx] = (
                first,
                _sum(
                    [
                        _displaced(gaps, dy, dx, step, (top, left), extent)
                        for dy in range(-radius - py, radius - py + 1)
                        if (dy, dx) != (0, 0)
                    ]
                ),
            )
        for px in offsets:
            total = _sum(
                [
                    block[:, :, (px - first) * step : (px - first) * step + width]
                    for first, block in (columns[dx] for dx in range(-radius - px, radius - px + 1))
                ]
            )
            total.mul_(1.0 / n)
            if waiting is None and (py, px) != (radius, radius):
                waiting = total
                continue
            if waiting is not None:  # (1 + a)(1 + b) - 1
                total = (total + waiting).addcmul_(total, waiting)
                waiting = None
            term = total.log1p_()
            entropy = term if entropy is None else entropy.add_(term)
    assert entropy is not None
    return entropy.mul_(-1.0 / n)


def _displaced(
    gaps: Gaps, dy: int, dx: int, step: int, corner: tuple[int, int], extent: tuple[int, int]
) -> Tensor:
    """Gaps between the pixels of a block and those displaced by (dy, dx) from them."""
    top, left = corner
    if (dy, dx) not in gaps:  # the opposite displacement, seen from the other pixel
        top, left, dy, dx = top + dy * step, left + dx * step, -dy, -dx
    left -= max(0, -dx) * step
    return gaps[dy, dx][:, top : top + extent[0], left : left + extent[1]]


def _sum(terms: list[Tensor]) -> Tensor:
    """Of two terms or more, in a tensor of its own."""
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total.add_(term)
    return total


def _information(h_u: Tensor, h_v: Tensor, h_joint: Tensor, normalised: bool) -> Tensor:
    """Estimated dependence below none is none; a flat patch has 0 of 0, which is 0."""
    information = (h_u + h_v - h_joint).clamp(min=0)
    return 2 * information / (h_u + h_v).clamp(min=1e-12) if normalised else information
