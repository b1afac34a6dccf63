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
import torch.nn.functional as F
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
    """

    def mean(image: Tensor) -> Tensor:
        return _gaussian_mean(image, (sigma / gap if gap > 0 else 0.0, sigma, sigma))

    mean_source, mean_result = mean(source), mean(result)
    variance = (mean(source * source) - mean_source.square()).clamp_(min=0)
    covariance = mean(source * result) - mean_source * mean_result
    slope = covariance / (variance + _LEAST_VARIANCE)
    # A pixel lies in many windows; it gets the mean of what they say.
    return mean(slope), mean(mean_result - slope * mean_source)


def _gaussian_mean(image: Tensor, sigmas: tuple[float, float, float]) -> Tensor:
    """[S, H, W] averaged along each axis, the outermost values repeated beyond the border."""
    for axis, sigma in enumerate(sigmas):
        reach = round(_REACH * sigma)
        if reach == 0:
            continue
        place = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (place / sigma).square())
        lines = image.movedim(axis, -1)
        shape = lines.shape
        padded = F.pad(lines.reshape(-1, 1, shape[-1]), (reach, reach), mode="replicate")
        averaged = F.conv1d(padded, (kernel / kernel.sum())[None, None])
        image = averaged.reshape(shape).movedim(-1, axis)
    return image
