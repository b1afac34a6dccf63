"""Detail from the source: a result as a locally simple function of the image it was made from.

What a model adds to the source's structure is its contrast. Contrast is smooth: over millimetres
or centimetres the brightness of most tissue in one modality is a function of that in another. The
guided filter (He, Sun and Tang, Guided Image Filtering, IEEE TPAMI 35, 2013, eq. 5, 6 and 8; for
several guides 14 to 16; box windows there, Gaussian ones here) fits that function to the result by
least squares in every neighbourhood. It keeps what the fit explains: the noise of a single sample
averages out, and edges lie where the source has them. Fitted on the model's grid and applied to the
source's own (He and Sun, Fast Guided Filter, arXiv 1505.00996), it also gives back the detail that
the model's larger pixels can't show.

The function is made of three straight pieces, for a line can't say that fluid is dark where grey
matter is bright and white matter between the two, as in FLAIR against T2. And it is fitted in three
layers apart: what is bright of the brain, its tissue and in some contrasts fluid; what else lies
deep in the head, fluid that is dark, for the most part; and what lies near the surface. Fat and
fluid are both bright in T2, and no function of T2 makes the one bright and the other dark; and what
dark fluid becomes says nothing of what tells grey matter from white. Each layer has its own
weighted windows, and a pixel gets what they say in proportion to its shares in them. (Windows
narrower than the passage between the layers, as with CT, need none.)

Least squares shrinks: what a fit explains of a sample varies less than the sample. In wide windows
the fit is made to vary as much, as far as that can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .head import AIR, grow_within, head_of, shrink

Image = TypeVar("Image", np.ndarray, Tensor)

# Standard deviations of the neighbourhoods. Between contrasts of MR one function serves far; bone
# and air against either do not allow that. Chosen on training subjects and, between contrasts of
# MR, the heads of openms (docs/results.md).
WINDOW_MM, WINDOW_CT_MM = 25.0, 1.7
# Deep is what lies below scalp, skull and the outermost fluid, on the whole; layers pass into each
# other over some millimetres.
_LAYER_MM, _PASSAGE_MM = 16.0, 2.5
# The brain reaches from the core of a head through what is bright enough, in units of the median of
# the cores of all slices, up to where it is still below the skin. Chosen as the windows were.
_CORE_MM, _BELOW_SKIN_MM, _TISSUE = 30.0, 8.0, 0.7
# What a fit is multiplied by, round the mean of its window, at most. Chosen on training subjects.
_MOST_CONTRAST = 1.25
# Model units. Noise below this level decides a sample's texture, which the fit averages away: where
# detail follows, sampling ends here. Chosen with the windows.
LAST_SIGMA = 0.5
# Evaluations for a sharp sample without detail, down to the last level of a card.
PLAIN_STEPS = 8
_HINGES = (1 / 3, 2 / 3)  # model units: where the pieces meet
# Squared model units: where the source varies less than this, the result is averaged instead.
_LEAST_VARIANCE = 1e-4
_NEXT_TO_NOTHING = 1e-7  # squared model units: where nothing is explained, nothing is given back
_LEAST_SHARE = 1e-6  # sum over a window: where it has less of a layer it says nothing of it
_REACH = 3.0  # standard deviations after which a window ends
_APART = 0.5  # standard deviations from one window to the next, but a pixel at least
# Slices: what is fitted, or divided into layers, at once bounds the memory.
_AT_ONCE, _SHARED_AT_ONCE = 64, 8


def guides(source: Image) -> list[Image]:
    """The images whose weighted sum, with a constant, is any function of three straight pieces.

    Args:
        source: of any shape, model units.

    Returns:
        Three images like `source`, model units.
    """
    images = [source]
    for hinge in _HINGES:
        above: Any = source - hinge
        images.append(above.clip(min=0))
    return images


def layer_shares(source: Tensor, rows: slice, columns: slice, pixel_mm: float) -> Tensor:
    """Every pixel's shares in three layers of the head: what is bright of the brain; what else lies
    deep; what lies near the surface, and air.

    Args:
        source: [S, 1, H, W], model units; all of a volume's slices, since what is bright is judged
            by all of them: in one slice ventricles may be most of what is deep.
        rows, columns: those that the source has; the others are padding.
        pixel_mm: in-plane pixel size, millimetres.

    Returns:
        [S, 3, H, W], 0 to 1, of the sum 1. A slice that is nowhere deep enough for a core has
        nothing of the first.
    """
    parts = source[..., rows, columns].split(_SHARED_AT_ONCE)  # a cut is no surface
    heads = [_head(part) for part in parts]
    cores = [shrink(head, round(_CORE_MM / pixel_mm)) for head in heads]
    found = torch.cat([part[core > 0] for part, core in zip(parts, cores, strict=True)])
    least = _TISSUE * float(found.median()) if len(found) else 0.0
    height, width = source.shape[2:]
    padding = (columns.start, width - columns.stop, rows.start, height - rows.stop)
    shares = source.new_empty(len(source), 3, height, width)
    each = zip(shares.split(_SHARED_AT_ONCE), parts, heads, cores, strict=True)
    for some, part, head, core in each:
        bright = (part > least).to(part)
        some[:] = F.pad(_shares(bright, head, core, pixel_mm), padding, mode="replicate")
    return shares


def _head(slices: Tensor) -> Tensor:
    """Noise may be above the level of air, and holds together; its means do not."""
    return head_of(F.avg_pool2d(slices, 3, 1, 1, count_include_pad=False), 2 * AIR)


def _shares(bright: Tensor, head: Tensor, core: Tensor, pixel_mm: float) -> Tensor:
    """As `layer_shares`, of slices without padding: where they are bright, in the head, and in its
    core, [S, 1, H, W], 0 or 1."""
    deep, below_skin = (shrink(head, round(mm / pixel_mm)) for mm in (_LAYER_MM, _BELOW_SKIN_MM))
    room = torch.maximum(core, bright * below_skin)
    brain = grow_within(core, room, round((_CORE_MM - _BELOW_SKIN_MM) / pixel_mm))
    down, across = (_window(n, 1, _PASSAGE_MM / pixel_mm, deep) for n in deep.shape[2:])
    down, across = (matrix / matrix.sum(dim=1, keepdim=True) for matrix in (down, across))
    deep, brain, bright = (down @ mask @ across.T for mask in (deep, brain, bright))
    tissue, deep = brain * bright, torch.maximum(brain, deep)
    return torch.cat([tissue, deep - tissue, 1 - deep], dim=1).clamp_(0, 1)


def in_layers(window_mm: float) -> bool:
    """Whether a fit over such windows is done in layers: one narrower than the passage between them
    has nothing to tell apart."""
    return window_mm > _PASSAGE_MM


def local_fit(
    result: Tensor, source: Tensor, shares: Tensor | None, sigma: float, gap: float
) -> Iterator[Tensor]:
    """Weights with result ~ weights[0] + sum of weights[1:] * guides(source) round each pixel: by
    least squares; in layers with some of the contrast that least squares lose.

    Args:
        result, source: [S, H, W], model units, on the same grid.
        shares: of each pixel in every layer, [S, L, H, W], 0 to 1, of the sum 1; None for one.
        sigma: standard deviation of the Gaussian window, pixels.
        gap: distance of neighbouring slices, pixels; 0 if they are to be fitted each by itself.

    Yields:
        [N, 4, H, W] for the next N slices; of the four the first in model units, the others ratios.
    """
    most = 1.0 if shares is None else _MOST_CONTRAST
    layers = torch.ones_like(source)[:, None] if shares is None else shares
    fits = [_layer_fit(result, source, one, sigma, gap, most) for one in layers.unbind(dim=1)]
    for parts in zip(*fits, strict=True):
        yield torch.stack(parts).sum(dim=0)


def _layer_fit(
    result: Tensor, source: Tensor, share: Tensor, sigma: float, gap: float, most: float
) -> Iterator[Tensor]:
    """As `local_fit`, of one layer, times its shares."""
    slices, rows, columns = share.shape
    through = sigma / gap if gap > 0 else 0.0
    # Fits of wide windows are smooth: one every few pixels is enough, for a fraction of the work.
    step = max(1, int(sigma * _APART))
    across_slices = _window(slices, 1, through, share)
    down, across = (_window(size, step, sigma, share) for size in (rows, columns))

    def near(start: int, stop: int) -> slice:
        """With all slices in their windows."""
        reach = int(_REACH * through)
        return slice(max(0, start - reach), min(slices, stop + reach))

    def fitted(start: int, stop: int) -> Tensor:
        """Of each window what of the layer it has, and its weights times that."""
        part = near(start, stop)
        windows = across_slices[start:stop, part], down, across
        whole = _sums(share[part], *windows).clamp_(min=_LEAST_SHARE)

        def mean(image: Tensor) -> Tensor:
            return _sums(image * share[part], *windows).div_(whole)

        fit = _fit(result[part], guides(source[part]), mean, most)
        return torch.stack([whole, *(weight.mul_(whole) for weight in fit)])

    first, fits = 0, fitted(0, near(0, min(_AT_ONCE, slices)).stop)
    for start in range(0, slices, _AT_ONCE):
        stop = min(start + _AT_ONCE, slices)
        part, known = near(start, stop), first + fits.shape[1]
        fresh = [fitted(known, part.stop)] if known < part.stop else []
        first, fits = part.start, torch.cat((fits[:, part.start - first :], *fresh), dim=1)
        # A pixel lies in many windows; it gets the mean of what they say, by what they have.
        windows = across_slices[start:stop, part], down.T, across.T
        whole, *weights = (_sums(one, *windows) for one in fits)
        yield torch.stack([share[start:stop] * weight / whole for weight in weights], dim=1)


def _fit(
    result: Tensor, images: list[Tensor], mean: Callable[[Tensor], Tensor], most: float
) -> list[Tensor]:
    """Of each window: the constant, and the weight of each image, up to `most` times that of least
    squares, so that what they explain of the result varies as much as all of it."""
    count = len(images)
    mean_result, means = mean(result), [mean(image) for image in images]
    right = [mean(a * result) - m * mean_result for a, m in zip(images, means, strict=True)]
    # Cholesky's L D L^T, pixel by pixel: a library's solver takes longer to be called than to work.
    lower: list[list[Tensor]] = []
    diagonal: list[Tensor] = []
    for i in range(count):
        row: list[Tensor] = []
        for j in range(i + 1):
            entry = mean(images[i] * images[j]) - means[i] * means[j]
            for k in range(j):
                entry -= (row[k] if i == j else lower[j][k]) * row[k] * diagonal[k]
            if i == j:
                diagonal.append(entry.clamp_(min=0).add_(_LEAST_VARIANCE))
            else:
                row.append(entry / diagonal[j])
        lower.append(row)
        for k in range(i):
            right[i] = right[i] - row[k] * right[k]
    slopes = [value / scale for value, scale in zip(right, diagonal, strict=True)]
    if most > 1:
        varies = mean(result * result) - mean_result * mean_result
        explained = sum(value * slope for value, slope in zip(right, slopes, strict=True))
        contrast = (varies / (explained + _NEXT_TO_NOTHING)).clamp_(1, most**2).sqrt_()
        slopes = [contrast * slope for slope in slopes]
    for i in reversed(range(count)):
        for k in range(i + 1, count):
            slopes[i] = slopes[i] - lower[k][i] * slopes[k]
    constant = mean_result
    for slope, m in zip(slopes, means, strict=True):
        constant = constant - slope * m
    return [constant, *slopes]


def _sums(image: Tensor, across_slices: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """[S, H, W] -> [S', H', W'], by what each slice, row and column is in each window: [S', S],
    [H', H], [W', W]. A product with a matrix is far quicker than a convolution of one channel."""
    in_plane = down @ image @ across.T
    return torch.tensordot(across_slices, in_plane, dims=1)


def _window(size: int, step: int, sigma: float, like: Tensor) -> Tensor:
    """Gaussian windows round places `step` apart, as they weigh every one of `size` places along an
    axis: a matrix with a row for each window. Made on the CPU: so all devices agree."""
    count = -(-size // step)
    centres = (size - 1 + step * (2 * torch.arange(count, dtype=like.dtype) - count + 1)) / 2
    distance = centres[:, None] - torch.arange(size, dtype=like.dtype)
    weights = torch.exp(-0.5 * (distance / max(sigma, 1e-6)).square())
    return (weights * (distance.abs() <= max(_REACH * sigma, step / 2))).to(like.device)
