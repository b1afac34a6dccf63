"""Triton kernels: a map's value at a block of pixels, joint densities in registers alone.

Imported by `fused` alone, where Triton is installed. One program computes some pixels of one slice;
the grid has the blocks of pixels of one slice after the other. A pixel's samples are read through
clamped coordinates, which is what repeating the border means, so nothing is padded or unfolded. The
numbers are those of `kde`, `shannon` and `reference`, and so are their reasons; here is said only
what is different.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _gap(difference, factor):
    """expm1(factor difference^2) of an argument below 0. A GPU's exponential of a number near 0
    is right to an ulp of 1, in which the digits of a small gap are lost: there, the series."""
    t = factor * difference * difference
    series = 1.0 + t * (0.2 + t * (1.0 / 30 + t * (1.0 / 210)))
    series = t * (1.0 + t * (0.5 + t * (1.0 / 6 + t * (1.0 / 24) * series)))
    return tl.where(t > -0.4, series, tl.exp(t) - 1.0)


@triton.jit
def _log1p(gap):
    """log(1 + gap) for -1 < gap <= 0; for small gaps by 2 artanh(gap / (2 + gap))."""
    s = gap / (2.0 + gap)
    r = s * s
    series = 1.0 + r * (1.0 / 3 + r * (1.0 / 5 + r * (1.0 / 7 + r * (1.0 / 9))))
    return tl.where(gap > -0.3, 2.0 * s * series, tl.log(1.0 + gap))


@triton.jit
def _place(height, width, PIXELS: tl.constexpr):
    """Of this program: its slice, where that starts in a stack, its pixels, and which there are."""
    blocks = tl.cdiv(height * width, PIXELS)
    index = tl.program_id(0) // blocks
    pixel = tl.program_id(0) % blocks * PIXELS + tl.arange(0, PIXELS)
    return index, index.to(tl.int64) * height * width, pixel, pixel < height * width


@triton.jit
def _sample(number, SIZE: tl.constexpr, dilation):
    """Row and column of a sample of the neighbourhood, relative to its middle."""
    return (number // SIZE - SIZE // 2) * dilation, (number % SIZE - SIZE // 2) * dilation


@triton.jit
def _clamped(image, y, x, height, width, mask):
    """Samples of one slice at rows y and columns x, the border repeated."""
    row = tl.minimum(tl.maximum(y, 0), height - 1)
    column = tl.minimum(tl.maximum(x, 0), width - 1)
    return tl.load(image + row * width + column, mask=mask, other=0.0)


@triton.jit
def _largest(a, b):
    """What is not a number stays so: a state that diverges must not look like one without LMI."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _information(h_u, h_v, h_joint, NORMALISED: tl.constexpr):
    information = _largest(h_u + h_v - h_joint, 0.0)
    if NORMALISED:
        information = 2.0 * information / tl.maximum(h_u + h_v, 1e-12)
    return information


@triton.jit(do_not_specialize=["dilation"])
def kde(
    u,
    v,
    widths_u,
    widths_v,
    out,
    height,
    width,
    dilation,
    SIZE: tl.constexpr,
    REACH: tl.constexpr,
    NORMALISED: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """u, v, out: [B, H, W]; widths: [B], of the kernels; REACH 1 searches the nine shifts of v."""
    index, start, pixel, mask = _place(height, width, PIXELS)
    u, v = u + start, v + start
    y, x = pixel // width, pixel % width
    width_u, width_v = tl.load(widths_u + index), tl.load(widths_v + index)
    factor_u, factor_v = -0.5 / (width_u * width_u), -0.5 / (width_v * width_v)
    n: tl.constexpr = SIZE * SIZE
    best = tl.zeros((PIXELS,), tl.float32)
    for k in range((2 * REACH + 1) * (2 * REACH + 1)):
        y_v, x_v = y + k // (2 * REACH + 1) - REACH, x + k % (2 * REACH + 1) - REACH
        h_u = tl.zeros((PIXELS,), tl.float32)
        h_v = tl.zeros((PIXELS,), tl.float32)
        h_joint = tl.zeros((PIXELS,), tl.float32)
        for p in range(n):
            dy, dx = _sample(p, SIZE, dilation)
            u_p = _clamped(u, y + dy, x + dx, height, width, mask)
            v_p = _clamped(v, y_v + dy, x_v + dx, height, width, mask)
            sum_u = tl.zeros((PIXELS,), tl.float32)
            sum_v = tl.zeros((PIXELS,), tl.float32)
            sum_joint = tl.zeros((PIXELS,), tl.float32)
            for q in range(n):
                dy, dx = _sample(q, SIZE, dilation)
                gap_u = _gap(_clamped(u, y + dy, x + dx, height, width, mask) - u_p, factor_u)
                gap_v = _gap(_clamped(v, y_v + dy, x_v + dx, height, width, mask) - v_p, factor_v)
                sum_u += gap_u
                sum_v += gap_v
                sum_joint += gap_u + gap_v + gap_u * gap_v
            h_u -= _log1p(sum_u / n)
            h_v -= _log1p(sum_v / n)
            h_joint -= _log1p(sum_joint / n)
        best = _largest(best, _information(h_u / n, h_v / n, h_joint / n, NORMALISED))
    tl.store(out + start + pixel, best, mask=mask)


@triton.jit
def _response(value, kernel_width, BINS: tl.constexpr, LANES: tl.constexpr):
    """Mass of values [N] in the bins, [N, LANES], 0 beyond the last bin."""
    bins = tl.arange(0, LANES)
    inside = tl.minimum(tl.maximum(value, 0.0), 1.0)
    beyond = value - inside
    tail = kernel_width * (1.0 - tl.exp(-tl.abs(beyond) / kernel_width))
    drawn_in = tl.where(beyond < 0, inside - tail, inside + tail)
    distance = (drawn_in[:, None] - bins[None, :] * (1.0 / (BINS - 1))) / kernel_width
    exponent = tl.where(bins[None, :] < BINS, -0.5 * distance * distance, float("-inf"))
    mass = tl.exp(exponent - tl.max(exponent, axis=1)[:, None])
    return mass / tl.sum(mass, axis=1)[:, None]


@triton.jit
def _nats(density):
    return density * tl.log(tl.maximum(density, 1e-30))


@triton.jit(do_not_specialize=["dilation"])
def shannon(
    u,
    v,
    widths_u,
    widths_v,
    out,
    height,
    width,
    dilation,
    SIZE: tl.constexpr,
    REACH: tl.constexpr,
    NORMALISED: tl.constexpr,
    BINS: tl.constexpr,
    LANES: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """u, v, out: [B, H, W]; widths: [B], of the kernels; LANES: a power of two, at least BINS."""
    index, start, pixel, mask = _place(height, width, PIXELS)
    u, v = u + start, v + start
    y, x = pixel // width, pixel % width
    width_u, width_v = tl.load(widths_u + index), tl.load(widths_v + index)
    n: tl.constexpr = SIZE * SIZE
    best = tl.zeros((PIXELS,), tl.float32)
    for k in range((2 * REACH + 1) * (2 * REACH + 1)):
        y_v, x_v = y + k // (2 * REACH + 1) - REACH, x + k % (2 * REACH + 1) - REACH
        marginal_u = tl.zeros((PIXELS, LANES), tl.float32)
        marginal_v = tl.zeros((PIXELS, LANES), tl.float32)
        joint = tl.zeros((PIXELS, LANES, LANES), tl.float32)
        for p in range(n):
            dy, dx = _sample(p, SIZE, dilation)
            u_p = _clamped(u, y + dy, x + dx, height, width, mask)
            v_p = _clamped(v, y_v + dy, x_v + dx, height, width, mask)
            response_u = _response(u_p, width_u, BINS, LANES) / n
            response_v = _response(v_p, width_v, BINS, LANES)
            marginal_u += response_u
            marginal_v += response_v / n
            joint += response_u[:, :, None] * response_v[:, None, :]
        h_u = -tl.sum(_nats(marginal_u), axis=1)
        h_v = -tl.sum(_nats(marginal_v), axis=1)
        h_joint = -tl.sum(tl.sum(_nats(joint), axis=2), axis=1)
        best = _largest(best, _information(h_u, h_v, h_joint, NORMALISED))
    tl.store(out + start + pixel, best, mask=mask)


@triton.jit
def _levels(image, y, x, height, width, mask, LEVELS: tl.constexpr):
    """Whole grey levels of one slice, 0 outside."""
    inside = mask & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    value = tl.load(image + y * width + x, mask=inside, other=0.0) * LEVELS
    # Beyond these no bin responds; and numbers that no integer holds stay whole.
    return tl.minimum(tl.maximum(value, -1024.0), 1024.0).to(tl.int32).to(tl.float32)


@triton.jit
def _level_response(
    level, LEVELS: tl.constexpr, SIGMA: tl.constexpr, BINS: tl.constexpr, LANES: tl.constexpr
):
    bins = tl.arange(0, LANES)
    distance = (level[:, None] - bins[None, :] * (LEVELS / (BINS - 1))) / SIGMA
    return tl.where(bins[None, :] < BINS, tl.exp(-0.5 * distance * distance), 0.0)


@triton.jit
def _mosaic(position, k, sample, length):
    """Where sample -1, 0 or 1 of window k (-1, 0 or 1) of the mosaic is read along an axis."""
    read = position + sample * (1 - k * k) + k * (1 - sample * sample)
    # The first window starts, and the last ends, outside the mosaic.
    beyond = (position + k < 0) | (position + k >= length)
    return tl.where(beyond & (sample == k), position + k, read)


@triton.jit
def _bits(density, EPSILON: tl.constexpr):
    return density * tl.log2(density + EPSILON)


@triton.jit
def reference(
    u,
    v,
    out,
    height,
    width,
    SEARCH: tl.constexpr,
    NORMALISED: tl.constexpr,
    LEVELS: tl.constexpr,
    SIGMA: tl.constexpr,
    EPSILON: tl.constexpr,
    BINS: tl.constexpr,
    LANES: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """u, v, out: [B, H, W]; SEARCH: over the nine windows of the mosaic, else its middle one."""
    _, start, pixel, mask = _place(height, width, PIXELS)
    u, v = u + start, v + start
    y, x = pixel // width, pixel % width
    best = tl.full((PIXELS,), float("-inf"), tl.float32)
    for window in range(0 if SEARCH else 4, 9 if SEARCH else 5):
        marginal_u = tl.zeros((PIXELS, LANES), tl.float32)
        marginal_v = tl.zeros((PIXELS, LANES), tl.float32)
        joint = tl.zeros((PIXELS, LANES, LANES), tl.float32)
        for p in range(9):
            dy, dx = p // 3 - 1, p % 3 - 1
            y_v = _mosaic(y, window // 3 - 1, dy, height)
            x_v = _mosaic(x, window % 3 - 1, dx, width)
            level_u = _levels(u, y + dy, x + dx, height, width, mask, LEVELS)
            level_v = _levels(v, y_v, x_v, height, width, mask, LEVELS)
            response_u = _level_response(level_u, LEVELS, SIGMA, BINS, LANES)
            response_v = _level_response(level_v, LEVELS, SIGMA, BINS, LANES)
            marginal_u += response_u
            marginal_v += response_v
            joint += response_u[:, :, None] * response_v[:, None, :]
        total = tl.sum(tl.sum(joint, axis=2), axis=1) + EPSILON
        h_joint = -tl.sum(tl.sum(_bits(joint / total[:, None, None], EPSILON), axis=2), axis=1)
        marginal_u /= tl.sum(marginal_u, axis=1)[:, None] + EPSILON
        marginal_v /= tl.sum(marginal_v, axis=1)[:, None] + EPSILON
        h_u = -tl.sum(_bits(marginal_u, EPSILON), axis=1)
        h_v = -tl.sum(_bits(marginal_v, EPSILON), axis=1)
        information = h_u + h_v - h_joint
        if NORMALISED:
            information = 2.0 * (information + EPSILON) / (h_u + h_v + EPSILON)
        best = _largest(best, information)
    tl.store(out + start + pixel, best, mask=mask)
