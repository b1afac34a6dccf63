"""Detail from the source: the guided filter against least squares written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion.detail import local_fit
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fit(result: Array, source: Array, sigma: float, gap: float) -> tuple[Array, Array]:
    slope, offset = local_fit(torch.from_numpy(result), torch.from_numpy(source), sigma, gap)
    return slope.numpy(), offset.numpy()


def weights(size: int, at: int, sigma: float) -> Array:
    """Of each place along an axis for the window around `at`, borders repeated outwards."""
    if sigma == 0:
        return np.eye(size)[at]
    found = np.zeros(size)
    reach = round(3 * sigma)
    for step in range(-reach, reach + 1):
        found[min(max(at + step, 0), size - 1)] += np.exp(-(step**2) / (2 * sigma**2))
    return found / found.sum()


@pytest.mark.parametrize(("gap", "through"), [(0.0, 0.0), (2.0, 0.75)])
def test_least_squares_in_every_window(gap: float, through: float) -> None:
    rng = np.random.default_rng(0)
    shape, sigma = (3, 6, 7), 1.5
    result, source = rng.random(shape), rng.random(shape)
    windows = np.empty((*shape, *shape))
    for at in np.ndindex(shape):
        along = [
            weights(n, i, s) for n, i, s in zip(shape, at, (through, sigma, sigma), strict=True)
        ]
        windows[at] = along[0][:, None, None] * along[1][:, None] * along[2]
    slopes, offsets = np.empty(shape), np.empty(shape)
    for at in np.ndindex(shape):
        # sum w (a I + b - p)^2 + eps a^2 is least: the ridge on the slope is one more equation.
        root = np.sqrt(windows[at].ravel())
        rows = np.stack([root * source.ravel(), root], axis=1)
        equations = np.vstack([rows, [np.sqrt(1e-4), 0.0]])
        right = np.append(root * result.ravel(), 0.0)
        slopes[at], offsets[at] = np.linalg.lstsq(equations, right, rcond=None)[0]
    found = fit(result, source, sigma, gap)
    for mean, each in zip(found, (slopes, offsets), strict=True):
        expected = np.einsum("abcijk,ijk->abc", windows, each)
        np.testing.assert_allclose(mean, expected, atol=1e-9)


def test_a_line_is_found_under_noise() -> None:
    rng = np.random.default_rng(1)
    source = rng.random((4, 32, 32))
    truth = 0.9 - 0.7 * source
    noisy = truth + rng.normal(0, 0.1, source.shape)
    slope, offset = fit(noisy, source, sigma=3.0, gap=1.0)
    assert np.abs(slope * source + offset - truth).std() < 0.02


def test_where_the_source_shows_nothing_the_result_is_kept_but_for_its_noise() -> None:
    result = np.zeros((1, 24, 24))
    result[:, :, 12:] = 0.5
    slope, offset = fit(result, np.full_like(result, 0.3), sigma=1.0, gap=0.0)
    assert np.abs(slope).max() < 1e-9
    np.testing.assert_allclose(offset[0, 12, [3, 20]], [0.0, 0.5], atol=1e-6)
