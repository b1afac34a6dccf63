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

from collections.abc import Callable, Iterator, Sequence
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


def layers(head: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """Every pixel's share in what lies deep in the head, and in what lies near its surface or out.

    Args:
        head: [S, H, W], 1 in the head, else 0.
        pixel_mm: in-plane pixel size, millimetres.

    Returns:
        Two images like `head`, each in [0, 1], which add up to 1.
    """
    deep = shrink(head[:, None], round(_LAYER_MM / pixel_mm))[:, 0]
    down, across = (_averaging(size, _PASSAGE_MM / pixel_mm, deep) for size in deep.shape[1:])
    deep = (down @ deep @ across.T).clamp_(0, 1)
    return deep, 1 - deep


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
    slices = len(result)
    through = sigma / gap if gap > 0 else 0.0

    def near(start: int, stop: int) -> slice:
        """With all slices in their windows."""
        reach = round(_REACH * through)
        return slice(max(0, start - reach), min(slices, stop + reach))

    def fitted(start: int, stop: int) -> Tensor:
        part = near(start, stop)
        inside = slice(start - part.start, stop - part.start)
        mean = _window_mean(share[part], sigma, through, inside)
        return torch.stack(_fit(result[part], guides(source[part]), mean), dim=1)

    first, fits = 0, fitted(0, near(0, min(_AT_ONCE, slices)).stop)
    for start in range(0, slices, _AT_ONCE):
        stop = min(start + _AT_ONCE, slices)
        part, known = near(start, stop), first + len(fits)
        fresh = [fitted(known, part.stop)] if known < part.stop else []
        first, fits = part.start, torch.cat((fits[part.start - first :], *fresh))
        # A pixel lies in many windows; it gets the mean of what they say.
        mean = _window_mean(share[part], sigma, through, slice(start - first, stop - first))
        yield torch.stack([share[start:stop] * mean(fit) for fit in fits.unbind(dim=1)], dim=1)


def _fit(result: Tensor, images: list[Tensor], mean: Callable[[Tensor], Tensor]) -> list[Tensor]:
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


def _window_mean(
    share: Tensor, sigma: float, through: float, inside: slice
) -> Callable[[Tensor], Tensor]:
    """Means of images like `share` [S, H, W], weighted by it, over the window round each pixel of
    the slices `inside`; `through`: standard deviation across the slices, in slices. 0 where a
    window has nothing of the layer."""
    slices, rows, columns = share.shape
    across_slices = _averaging(slices, through, share)[inside]
    down, across = _averaging(rows, sigma, share), _averaging(columns, sigma, share)

    def total(image: Tensor) -> Tensor:
        in_plane = down @ image @ across.T
        return (across_slices @ in_plane.reshape(slices, -1)).reshape(-1, rows, columns)

    whole = total(share).clamp_(min=_LEAST_SHARE)
    return lambda image: total(image * share).div_(whole)


def _averaging(size: int, sigma: float, like: Tensor) -> Tensor:
    """[size, size]: each row a Gaussian round its own place, what lies beyond the border added to
    the outermost value. As a matrix, since a product with one is far quicker than a convolution of
    a single channel."""
    reach = round(_REACH * sigma)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (steps.to(like.dtype) / max(sigma, 1e-6)).square())
    places = torch.arange(size)[:, None] + steps
    weights = (weights / weights.sum()).expand_as(places)
    # On the CPU: a GPU adds to one place in any order, and the last bits would differ.
    matrix = torch.zeros(size, size, dtype=like.dtype)
    return matrix.scatter_add_(1, places.clamp_(0, size - 1), weights).to(like.device)
