"""Detail from the source: a result as a locally linear function of the image it was made from.

What a model adds to the source's structure is its contrast. Contrast is smooth: in a neighbourhood
of a few millimetres the brightness of most tissue in one modality is nearly a linear function of
that in another. The guided filter (He, Sun and Tang, Guided Image Filtering, IEEE TPAMI 35, 2013,
eq. 5, 6 and 8; box windows there, Gaussian ones here) fits that function to the result by least
squares in every neighbourhood. It keeps what the fit explains: the noise of a single sample
averages out, and edges lie where the source has them. Fitted on the model's grid and applied to the
source's own (He and Sun, Fast Guided Filter, arXiv 1505.00996), it also gives back the detail that
the model's larger pixels can't show.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Standard deviations of the neighbourhoods. Between contrasts of MR a line fits far; bone and air
# against either do not. Chosen on training subjects (docs/results.md).
WINDOW_MM, WINDOW_CT_MM = 5.0, 1.7
# Squared model units: where the source varies less than this, the result is averaged instead.
_LEAST_VARIANCE = 1e-4
_REACH = 3.0  # standard deviations after which a window ends


def local_fit(result: Tensor, source: Tensor, sigma: float, gap: float) -> tuple[Tensor, Tensor]:
    """Slope and offset, like `result`, with result ~ slope * source + offset around each pixel.

    Args:
        result, source: [S, H, W], model units, on the same grid.
        sigma: standard deviation of the Gaussian window, pixels.
        gap: distance of neighbouring slices, pixels; 0 if they are to be fitted each by itself.

    Returns:
        Two tensors [S, H, W]: the slope, a ratio, and the offset, model units.
    """
    slices, rows, columns = result.shape
    through = _averaging(slices, sigma / gap if gap > 0 else 0.0, result)
    down, across = _averaging(rows, sigma, result), _averaging(columns, sigma, result)

    def mean(image: Tensor) -> Tensor:
        in_plane = down @ image @ across.T
        return (through @ in_plane.reshape(slices, -1)).reshape(image.shape)

    mean_source, mean_result = mean(source), mean(result)
    variance = (mean(source * source) - mean_source.square()).clamp_(min=0)
    covariance = mean(source * result) - mean_source * mean_result
    slope = covariance / (variance + _LEAST_VARIANCE)
    # A pixel lies in many windows; it gets the mean of what they say.
    return mean(slope), mean(mean_result - slope * mean_source)


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
