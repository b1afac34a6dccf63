"""Step `detail`: edges from the source, at the source's own resolution.

The network works on larger pixels than most sources have, and its result is blurred. A guided
filter (He, Sun and Tang, IEEE TPAMI 35, 2013, eq. 5, 6 and 8; Gaussian windows in place of boxes)
fits the result in every neighbourhood as a linear function of the source, on the source's own grid.
As in the fast guided filter (He and Sun, arXiv 1505.00996), the fit sees the source as blurred as
the result is, and the function is applied to the source itself: edges become as sharp as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import SimpleITK as sitk

from .case import Case

LEAST_SIGMA = 0.5  # voxels: a narrower window holds one voxel
_SHORTEST = 4  # voxels: the recursive filter needs as many
_SLAB = 32  # planes that are filtered at once: bounds the memory


@dataclass(frozen=True)
class Detail:
    """window_mm: standard deviation of the neighbourhood; blur_mm: of the result's blur.
    least_variance: squared model units; where the source varies less, the result is averaged."""

    window_mm: float = 1.0
    blur_mm: float = 1.0
    least_variance: float = 1e-3

    name: ClassVar[str] = "detail"
    releases: ClassVar[tuple[str, ...]] = ("units",)

    def applies(self, case: Case) -> bool:
        return case.options.steps == 1

    def run(self, case: Case) -> dict[str, Any]:
        assert case.result is not None and case.units is not None
        spacing = case.source.spacing_mm[::-1]
        window, blur = ([mm / step for step in spacing] for mm in (self.window_mm, self.blur_mm))
        reach = sum(int(4 * s[0]) + 1 for s in (window, window, blur) if s[0] >= LEAST_SIGMA)
        planes = len(case.result)
        made = np.empty_like(case.result)
        for start in range(0, planes, _SLAB):
            stop = min(start + _SLAB, planes)
            first, last = max(0, start - reach), min(planes, stop + reach)
            guide, image = case.units[first:last], case.result[first:last]
            filtered = guided_filter(guide, image, window, blur, self.least_variance)
            np.maximum(filtered[start - first : stop - first], 0, out=made[start:stop])
        made *= case.result > 0  # air stays air
        case.result = made
        return {}


def guided_filter(
    guide: np.ndarray,
    image: np.ndarray,
    window: Sequence[float],
    blur: Sequence[float],
    least_variance: float,
) -> np.ndarray:
    """Eq. 5, 6 and 8: `image` as a locally linear function of the blurred `guide`, applied to it.

    Args:
        guide, image: [k, j, i], float32.
        window, blur: standard deviations along k, j and i, voxels.
        least_variance: added to the guide's variance, squared units of the guide.

    Returns:
        float32 [k, j, i].
    """
    blurred = smooth(guide, blur)
    mean_guide, mean_image = smooth(blurred, window), smooth(image, window)
    covariance = smooth(blurred * image, window) - mean_guide * mean_image
    variance = np.maximum(smooth(blurred * blurred, window) - mean_guide * mean_guide, 0)
    slope = covariance / (variance + np.float32(least_variance))
    offset = mean_image - slope * mean_guide
    made: np.ndarray = smooth(slope, window) * guide + smooth(offset, window)
    return made


def smooth(image: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """Gaussian filter with `sigmas` voxels along k, j and i; float32. Windows narrower than a
    voxel, and axes too short for the filter, are left alone."""
    made = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    for direction, sigma in enumerate(reversed(sigmas)):
        if sigma >= LEAST_SIGMA and made.GetSize()[direction] >= _SHORTEST:
            made = sitk.RecursiveGaussian(made, sigma=float(sigma), direction=direction)
    return sitk.GetArrayFromImage(made)
