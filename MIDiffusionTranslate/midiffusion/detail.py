"""Detail from the source: a result as a locally simple function of the image it was made from.

What a model adds to the source's structure is its contrast. Contrast is smooth: in a neighbourhood
of some millimetres the brightness of most tissue in one modality is a function of that in another.
The guided filter (He, Sun and Tang, Guided Image Filtering, IEEE TPAMI 35, 2013, eq. 5, 6 and 8;
for several guides 14 to 16; box windows there, Gaussian ones here) fits that function to the result
by least squares in every neighbourhood. It keeps what the fit explains: the noise of a single
sample averages out, and edges lie where the source has them. Fitted on the model's grid and applied
to the source's own (He and Sun, Fast Guided Filter, arXiv 1505.00996), it also gives back the
detail that the model's larger pixels can't show.

The function is made of three straight pieces, for a line can't say that fluid is dark where grey
matter is bright and white matter between the two, as in FLAIR against T2. And it is fitted in two
layers apart, near the surface of the head and below: fat and fluid are both bright in T2, and no
function of T2 makes the one bright and the other dark. Each layer has its own weighted windows, and
a pixel gets what they say in proportion to its shares in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .head import shrink

Image = TypeVar("Image", np.ndarray, Tensor)

# Standard deviations of the neighbourhoods. Between contrasts of MR one function serves far; bone
# and air against either do not allow that. Chosen on training subjects (docs/results.md).
WINDOW_MM, WINDOW_CT_MM = 15.0, 1.7
# Scalp, skull and the outermost fluid; the layers pass into each other over some millimetres.
_LAYER_MM, _PASSAGE_MM = 16.0, 2.5
# Model units. Noise below this level decides a sample's texture, which the fit averages away: where
# detail follows, sampling ends here. Chosen with the windows.
LAST_SIGMA = 0.5
# Evaluations for a sharp sample without detail, down to the last level of a card.
PLAIN_STEPS = 8
_HINGES = (1 / 3, 2 / 3)  # model units: where the pieces meet
# Squared model units: where the source varies less than this, the result is averaged instead.
_LEAST_VARIANCE = 1e-4
_LEAST_SHARE = 1e-6  # of a window in a layer: where there is less the layer says nothing
_REACH = 3.0  # standard deviations after which a window ends
_APART = 0.5  # standard deviations from one window to the next, but a pixel at least
_AT_ONCE = 64  # slices: what is fitted at once bounds the memory


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


def layers(head: Tensor, pixel_mm: float, window_mm: float) -> list[Tensor]:
    """Every pixel's share in what lies deep in the head, and in what lies near its surface or out.

    Args:
        head: [S, H, W], 1 in the head, else 0.
        pixel_mm: in-plane pixel size, millimetres.
        window_mm: of the fit; one narrower than the passage between the layers needs none.

    Returns:
        Images like `head`, each in [0, 1], which add up to 1: two, or one of ones.
    """
    if window_mm < _PASSAGE_MM:
        return [torch.ones_like(head)]
    deep = shrink(head[:, None, ::2, ::2], round(_LAYER_MM / (2 * pixel_mm)))[:, 0]
    down, across = (_window(size, 1, 2, _PASSAGE_MM / pixel_mm, head) for size in head.shape[1:])
    down, across = (matrix / matrix.sum(dim=1, keepdim=True) for matrix in (down, across))
    deep = (down @ deep @ across.T).clamp_(0, 1)
    return [deep, 1 - deep]


def local_fit(
    result: Tensor, source: Tensor, shares: Sequence[Tensor], sigma: float, gap: float
) -> Iterator[Tensor]:
    """Weights with result ~ weights[0] + sum of weights[1:] * guides(source) round each pixel.

    Args:
        result, source: [S, H, W], model units, on the same grid.
        shares: of each layer, like `source`, 0 to 1; they add up to 1.
        sigma: standard deviation of the Gaussian window, pixels.
        gap: distance of neighbouring slices, pixels; 0 if they are to be fitted each by itself.

    Yields:
        [N, 4, H, W] for the next N slices; of the four the first in model units, the others ratios.
    """
    fits = [_layer_fit(result, source, share, sigma, gap) for share in shares]
    for parts in zip(*fits, strict=True):
        yield torch.stack(parts).sum(dim=0)


def _layer_fit(
    result: Tensor, source: Tensor, share: Tensor, sigma: float, gap: float
) -> Iterator[Tensor]:
    """As `local_fit`, of one layer, times its shares."""
    slices, rows, columns = share.shape
    through = sigma / gap if gap > 0 else 0.0
    # Fits of wide windows are smooth: every few pixels is enough, for a fraction of the work.
    step = max(1, int(sigma * _APART))
    some = (slice(None), slice(None, None, step), slice(None, None, step))

    def near(start: int, stop: int) -> slice:
        """With all slices in their windows."""
        reach = round(_REACH * through)
        return slice(max(0, start - reach), min(slices, stop + reach))

    def averaging(weight: Tensor, part: slice, inside: slice, steps: tuple[int, int]) -> _Averaging:
        """Over the windows of the slices `inside`, of images of the slices `part`."""
        across_slices = _window(slices, 1, 1, through, share)[inside, part]
        down, across = (_window(size, *steps, sigma, share) for size in (rows, columns))
        return _Averaging(weight, across_slices, down, across)

    def fitted(start: int, stop: int) -> Tensor:
        part = near(start, stop)
        mean = averaging(share[part], part, slice(start, stop), (step, 1))
        return torch.stack(_fit(result[part], guides(source[part]), mean), dim=1)

    first, fits = 0, fitted(0, near(0, min(_AT_ONCE, slices)).stop)
    for start in range(0, slices, _AT_ONCE):
        stop = min(start + _AT_ONCE, slices)
        part, known = near(start, stop), first + len(fits)
        fresh = [fitted(known, part.stop)] if known < part.stop else []
        first, fits = part.start, torch.cat((fits[part.start - first :], *fresh))
        # A pixel lies in many windows; it gets the mean of what they say.
        mean = averaging(share[part][some], part, slice(start, stop), (1, step))
        yield torch.stack([share[start:stop] * mean(fit) for fit in fits.unbind(dim=1)], dim=1)


def _fit(result: Tensor, images: list[Tensor], mean: _Averaging) -> list[Tensor]:
    """Of each window: the constant, and the weight of each image."""
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
    for i in reversed(range(count)):
        for k in range(i + 1, count):
            slopes[i] = slopes[i] - lower[k][i] * slopes[k]
    constant = mean_result
    for slope, m in zip(slopes, means, strict=True):
        constant = constant - slope * m
    return [constant, *slopes]


class _Averaging:
    """Weighted means over windows, 0 where a window has nothing of weight.

    Args:
        weight: of each pixel, [S, H, W].
        across_slices, down, across: of each slice, row and column in each window,
            [S', S], [H', H], [W', W]. As matrices, since a product with one is far quicker than a
            convolution of a single channel.
    """

    def __init__(self, weight: Tensor, across_slices: Tensor, down: Tensor, across: Tensor) -> None:
        self._weight = weight
        self._windows = across_slices, down, across
        self._whole = self._sum(weight).clamp_(min=_LEAST_SHARE)

    def __call__(self, image: Tensor) -> Tensor:
        """[S, H, W] -> [S', H', W']."""
        return self._sum(image * self._weight).div_(self._whole)

    def _sum(self, image: Tensor) -> Tensor:
        across_slices, down, across = self._windows
        in_plane = down @ image @ across.T
        return torch.tensordot(across_slices, in_plane, dims=1)


def _window(size: int, step_to: int, step_from: int, sigma: float, like: Tensor) -> Tensor:
    """Gaussian windows round every `step_to`-th of `size` places along an axis, as they weigh every
    `step_from`-th: a matrix with a row for each window. On the CPU first: all devices agree."""
    centres = torch.arange(0, size, step_to, dtype=like.dtype)[:, None]
    distance = centres - torch.arange(0, size, step_from, dtype=like.dtype)
    weights = torch.exp(-0.5 * (distance / max(sigma, 1e-6)).square())
    return (weights * (distance.abs() <= round(_REACH * sigma))).to(like.device)
