"""Noise of a source, against doses that are known and a transform that is not ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion import source_noise
from midiffusion.grid import resampling_matrix
from midiffusion.source_noise import noise_level, without_noise
from scipy import fft
from toys import anatomy, noisy


def interpolated(clean: np.ndarray, sigma: float) -> np.ndarray:
    """With noise of pixels twice as large."""
    _, height, width = clean.shape
    rows, columns = (resampling_matrix(n // 2, 2.0, n, 1.0) for n in (height, width))
    half = np.random.default_rng(0).standard_normal((2, len(clean), height // 2, width // 2))
    real, imaginary = sigma * (rows @ half @ columns.T)
    return np.hypot(clean + real, imaginary).astype(np.float32)


def error(stack: np.ndarray, clean: np.ndarray) -> float:
    return float(np.sqrt(np.mean((stack - clean)[clean > 0] ** 2)))


def planes(stack: np.ndarray) -> list[torch.Tensor]:
    return list(torch.from_numpy(stack))


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_level_is_found(sigma, shift):
    """Also under a gradient, which is anatomy."""
    slope = shift * np.linspace(0, 1, 96, dtype=np.float32)
    found = noise_level(planes(noisy(anatomy() + slope, sigma)))
    assert found == pytest.approx(sigma, rel=0.2)


def test_anatomy_is_no_noise_and_nothing_has_none():
    assert noise_level(planes(anatomy())) < 0.002
    assert noise_level(planes(np.zeros((2, 32, 32), np.float32))) == 0
    assert noise_level(planes(np.ones((2, 4, 5), np.float32))) == 0


@pytest.mark.parametrize("sigma", [0.04, 0.1])
def test_noise_goes_and_edges_stay(sigma):
    clean = anatomy()
    given = noisy(clean, sigma)
    result, level = without_noise(given, 1.5)
    assert level == pytest.approx(sigma, rel=0.12)
    assert error(result, clean) < 0.5 * error(given, clean)
    assert result[clean == 0].mean() < 0.2 * given[clean == 0].mean()  # Rayleigh's mean is gone
    edge = np.s_[:, 48, 7:15]  # air to the outermost ring
    assert np.abs(result[edge] - clean[edge]).mean() < 1.5 * sigma
    blurred = (given[:, :, :-2] + given[:, :, 1:-1] + given[:, :, 2:]) / 3  # what is cheaper
    assert error(result, clean) < error(blurred, clean[:, :, 1:-1])


def test_weak_noise_is_left_alone_and_stronger_noise_taken_out_by_degrees():
    clean = anatomy()
    weak = noisy(clean, 0.01)
    assert without_noise(weak, 1.5)[0] is weak
    shares = []
    for sigma in (0.018, 0.022, 0.035):
        given = noisy(clean, sigma)
        shares.append(error(without_noise(given, 1.5)[0], clean) / error(given, clean))
    assert 0.97 > shares[0] > shares[1] > shares[2]


def test_noise_of_an_interpolated_acquisition_is_found_where_pixels_are_small():
    clean = anatomy(size=192)
    given = interpolated(clean, 0.1)
    fine, level = without_noise(given, 0.9)
    assert level == pytest.approx(0.1, rel=0.4)
    assert error(fine, clean) < 0.7 * error(given, clean)
    coarse, below = without_noise(given, 1.2)  # twice that would be more than anatomy allows
    assert below < level and error(coarse, clean) > error(fine, clean)


def test_patches_lose_what_is_below_the_threshold_and_nothing_else():
    """Against scipy's transform, patch by patch."""
    sigma = 0.07
    image = noisy(anatomy(1, 24), sigma)[0]
    padded = np.pad(image, 8, mode="edge").astype(np.float64)
    total, shares = np.zeros_like(padded), np.zeros_like(padded)
    for top in range(0, len(padded) - 7, 2):
        for left in range(0, len(padded) - 7, 2):
            place = np.s_[top : top + 8, left : left + 8]
            waves = fft.dctn(padded[place], norm="ortho")
            mean = waves[0, 0]
            waves[np.abs(waves) <= 2.7 * sigma] = 0
            waves[0, 0] = mean
            total[place] += fft.idctn(waves, norm="ortho")
            shares[place] += 1
    expected = (total / shares)[8:-8, 8:-8]
    found = source_noise._shrunk(torch.from_numpy(image), sigma).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found - image).max() > sigma


@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 33, 17), (0, 40, 40), (1, 1, 1)])
def test_any_size_comes_back(shape):
    stack = np.random.default_rng(0).uniform(0.3, 0.9, shape).astype(np.float32)
    before = stack.copy()
    result, level = without_noise(stack, 0.4)
    assert result.shape == shape and result.dtype == np.float32 and np.isfinite(result).all()
    assert level >= 0 and np.array_equal(stack, before)
