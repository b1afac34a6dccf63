"""Figures of one image against another.

Every function takes stacks of slices, floating point arrays ``[..., H, W]`` in model units (nominal
range 0 to 1), on an intensity scale that was fixed beforehand: nothing here rescales an image.
Similarities are computed slice by slice over the last two axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_K1, _K2 = 0.01, 0.03


def ssim_map(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    data_range: float = 1.0,
    window: int = 7,
) -> Array:
    """Structural similarity at every pixel, [..., H, W], values in [-1, 1].

    Wang et al., IEEE Trans Image Process 2004;13:600, eq. 13, with a uniform window, the unbiased
    (co)variances and mirrored borders: the settings scikit-image has by default.
    Raises ValueError if the window does not fit into the image.
    """
    first = np.asarray(first, dtype=np.float64)
    second = np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"images of different shapes: {first.shape} and {second.shape}")
    if window % 2 == 0 or window > min(first.shape[-2:]):
        raise ValueError(f"a window of {window} pixels does not suit {first.shape[-2:]} pixels")
    unbiased = window**2 / (window**2 - 1)

    def mean(images: NDArray[np.floating]) -> Array:
        size = (1,) * (images.ndim - 2) + (window, window)
        found: Array = ndimage.uniform_filter(images, size)
        return found

    mean1, mean2 = mean(first), mean(second)
    variance1 = unbiased * (mean(first * first) - mean1 * mean1)
    variance2 = unbiased * (mean(second * second) - mean2 * mean2)
    covariance = unbiased * (mean(first * second) - mean1 * mean2)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    structure = (2 * covariance + c2) / (variance1 + variance2 + c2)
    return luminance * structure


def mean_squared_error(
    first: NDArray[np.floating], second: NDArray[np.floating], mask: Mask | None = None
) -> float:
    """Mean squared difference, over the mask if there is one (then it must not be empty)."""
    return float(np.mean(_difference(first, second, mask) ** 2))


def mean_absolute_error(
    first: NDArray[np.floating], second: NDArray[np.floating], mask: Mask | None = None
) -> float:
    """Mean absolute difference, over the mask if there is one (then it must not be empty)."""
    return float(np.mean(np.abs(_difference(first, second, mask))))


def psnr(mse: float, *, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error; infinite for 0."""
    return float("inf") if mse == 0 else float(10 * np.log10(data_range**2 / mse))


def entropies(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    bins: int = 64,
    data_range: float = 1.0,
) -> tuple[float, float, float]:
    """H(first), H(second) and H(first, second) in nats from a joint histogram.

    `bins` equal bins over [0, data_range] on either axis; values outside count in the end bins.
    """
    edges = np.linspace(0.0, data_range, bins + 1)
    joint, _, _ = np.histogram2d(
        np.clip(np.ravel(first), 0.0, data_range),
        np.clip(np.ravel(second), 0.0, data_range),
        bins=(edges, edges),
    )
    joint /= joint.sum()
    return _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0)), _entropy(joint)


def mutual_information(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Mutual information of two images in nats (64 x 64 bins over [0, 1])."""
    h1, h2, h12 = entropies(first, second)
    return h1 + h2 - h12


def _difference(
    first: NDArray[np.floating], second: NDArray[np.floating], mask: Mask | None
) -> Array:
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return difference if mask is None else difference[mask]


def _entropy(probabilities: Array) -> float:
    positive = probabilities[probabilities > 0]
    return float(-np.sum(positive * np.log(positive)))
