"""Detail from the source: the guided filter against least squares written out, and its parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion import detail
from midiffusion.detail import deep_share, guides, in_layers, local_fit
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fit(
    result: Array, source: Array, sigma: float, gap: float, share: Array | None = None
) -> Array:
    found = local_fit(
        torch.from_numpy(result),
        torch.from_numpy(source),
        None if share is None else torch.from_numpy(share),
        sigma,
        gap,
    )
    return torch.cat(list(found)).movedim(1, 0).numpy()


def applied(found: Array, source: Array) -> Array:
    return found[0] + sum(w * g for w, g in zip(found[1:], guides(source), strict=True))


def weights(size: int, at: int, sigma: float) -> Array:
    """Of each place along an axis in the window around `at`."""
    if sigma == 0:
        return np.eye(size)[at]
    steps = np.arange(size) - at
    return np.exp(-(steps**2) / (2 * sigma**2)) * (abs(steps) <= round(3 * sigma))


def average(image: Array, weight: Array) -> tuple[float, float]:
    """Mean and variance under weights of the sum 1."""
    mean = float((weight * image).sum())
    return mean, float((weight * (image - mean) ** 2).sum())


@pytest.mark.parametrize(("gap", "through"), [(0.0, 0.0), (2.0, 0.75)])
def test_least_squares_in_every_window(gap: float, through: float) -> None:
    rng = np.random.default_rng(0)
    shape, sigma = (3, 6, 7), 1.5
    result, source, share = (rng.random(shape) for _ in range(3))
    windows = np.empty((*shape, *shape))
    for at in np.ndindex(shape):
        along = [
            weights(n, i, s) for n, i, s in zip(shape, at, (through, sigma, sigma), strict=True)
        ]
        windows[at] = along[0][:, None, None] * along[1][:, None] * along[2]
    expected = np.zeros((4, *shape))
    pieces = [np.ones(shape), source, np.maximum(source - 1 / 3, 0), np.maximum(source - 2 / 3, 0)]
    for layer in (share, 1 - share):
        its = windows * layer
        its /= its.sum(axis=(3, 4, 5), keepdims=True)
        each = np.empty((4, *shape))
        for at in np.ndindex(shape):
            # sum w (b + sum a g - p)^2 + eps a^2 is least: the ridges are three more equations.
            root = np.sqrt(its[at].ravel())
            rows = np.stack([root * piece.ravel() for piece in pieces], axis=1)
            equations = np.vstack([rows, np.sqrt(1e-4) * np.eye(4)[1:]])
            right = np.append(root * result.ravel(), np.zeros(3))
            found = np.linalg.lstsq(equations, right, rcond=None)[0]
            its_mean, varies = average(result, its[at])
            _, explained = average(applied(found, source), its[at])
            # As much as the result varies, but for the ridge, or at most 1.25 times.
            ridge = 1e-4 * (found[1:] ** 2).sum()
            found[1:] *= np.sqrt(np.clip(varies / (explained + ridge), 1, 1.25**2))
            changed, _ = average(applied(found, source), its[at])
            found[0] += its_mean - changed
            each[(slice(None), *at)] = found
        # A pixel gets the windows' weights in proportion to what of the layer they have.
        evidence = (windows * layer).sum(axis=(3, 4, 5))
        share_of = windows * evidence
        share_of /= share_of.sum(axis=(3, 4, 5), keepdims=True)
        expected += layer * np.einsum("abcijk,wijk->wabc", share_of, each)
    np.testing.assert_allclose(fit(result, source, sigma, gap, share), expected, atol=1e-9)


@pytest.mark.parametrize("sigma", [1.2, 4.0])
def test_slices_fitted_in_parts_are_those_fitted_at_once(
    sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    result, source, share = rng.random((3, 11, 8, 8))
    together = fit(result, source, sigma, gap=sigma / 0.6, share=share)
    for some in (1, 2, 3, 10):  # a window reaches over one slice
        monkeypatch.setattr(detail, "_AT_ONCE", some)
        in_parts = fit(result, source, sigma, gap=sigma / 0.6, share=share)
        np.testing.assert_allclose(in_parts, together, atol=1e-12)


def test_wide_windows_a_few_pixels_apart_are_as_good_as_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:41, :38]
    source = rng.random((2, 41, 38))
    contrast = np.sin(x / 9) * np.cos(y / 7)
    result = 0.4 + 0.3 * contrast * source + rng.normal(0, 0.02, source.shape)
    share = (1 + np.tanh((x - 20) / 3)) / 2 * np.ones_like(source)
    few = applied(fit(result, source, sigma=6.0, gap=1.0, share=share), source)
    monkeypatch.setattr(detail, "_APART", 0)
    every = applied(fit(result, source, sigma=6.0, gap=1.0, share=share), source)
    assert 0 < np.abs(few - every).max() < 0.01
    assert np.abs(few - every).mean() < 0.001


def test_three_pieces_are_found_under_noise() -> None:
    rng = np.random.default_rng(1)
    source = rng.random((4, 48, 48))
    truth = np.interp(source, [0, 1 / 3, 2 / 3, 1], [0.0, 0.5, 0.8, 0.1])
    noisy = truth + rng.normal(0, 0.1, source.shape)
    found = applied(fit(noisy, source, sigma=4.0, gap=1.0), source)
    assert np.abs(found - truth).mean() < 0.02


def test_where_the_source_shows_nothing_the_result_is_kept_but_for_its_noise() -> None:
    result = np.zeros((1, 24, 24))
    result[:, :, 12:] = 0.5
    found = fit(result, np.full_like(result, 0.3), sigma=1.0, gap=0.0)
    assert np.abs(found[1:]).max() < 1e-9
    np.testing.assert_allclose(found[0, 0, 12, [3, 20]], [0.0, 0.5], atol=1e-6)


def disc(pixels: int, radius_mm: float, pixel_mm: float) -> tuple[torch.Tensor, Array]:
    """A round head on the middle of [1, 1, pixels, pixels], and distances from there."""
    y, x = (np.mgrid[:pixels, :pixels] - (pixels - 1) / 2) * pixel_mm
    radius = np.hypot(y, x)
    return torch.from_numpy(np.where(radius < radius_mm, 0.5, 0.0))[None, None].float(), radius


@pytest.mark.parametrize("pixel_mm", [1.0, 1.667, 2.5])
@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_deep_is_what_lies_16_mm_below_the_surface(pixel_mm: float, noise: float) -> None:
    pixels = 2 * round(75 / pixel_mm)
    source, radius = disc(pixels, 60, pixel_mm)
    generator = torch.Generator().manual_seed(6)
    real, imaginary = noise * torch.randn(2, *source.shape, generator=generator)
    deep = deep_share(
        ((source + real) ** 2 + imaginary**2).sqrt(), slice(0, pixels), slice(0, pixels), pixel_mm
    )[0].numpy()
    assert deep.min() >= 0 and deep.max() <= 1
    inside = 60 - 16  # with noise beyond the level of air, too
    margin = 5 + 2 * pixel_mm
    assert deep[radius < inside - margin].min() > 0.95
    assert deep[radius > inside + margin].max() < 0.05
    half = deep > 0.5
    for turned in (half, half.T, half[::-1], half[:, ::-1]):
        along = turned[pixels // 2, : pixels // 2]
        assert abs((pixels // 2 - along.argmax()) * pixel_mm - inside) < 1.5 + pixel_mm
    row = deep[pixels // 2, : pixels // 2]
    assert 4 <= ((row > 0.1) & (row < 0.9)).sum() * pixel_mm <= 10  # of a Gaussian of 2.5 mm: 6.4


def test_a_cut_is_no_surface_whatever_the_padding() -> None:
    source, _ = disc(96, 60, 2.0)
    cut = source[..., 30:, :]
    alone = deep_share(cut, slice(0, 66), slice(0, 96), 2.0)
    assert alone[0, 0, 48] > 0.99
    padded = deep_share(
        torch.nn.functional.pad(cut, (8, 8, 6, 8)), slice(6, 72), slice(8, 104), 2.0
    )
    torch.testing.assert_close(padded[:, 6:72, 8:104], alone)


def test_only_wide_windows_need_layers() -> None:
    assert in_layers(detail.WINDOW_MM) and not in_layers(detail.WINDOW_CT_MM)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_empty_layer_says_nothing(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "_MOST_CONTRAST", 1.0)  # which a fit in one layer has not
    rng = np.random.default_rng(5)
    result, source = rng.random((2, 2, 12, 12)).astype(np.float32)
    one = fit(result, source, sigma=3.0, gap=1.0)
    two = fit(result, source, sigma=3.0, gap=1.0, share=np.full_like(source, share))
    np.testing.assert_allclose(two, one, atol=1e-5)


def test_what_is_alike_in_the_source_may_differ_between_the_layers() -> None:
    """As fat and fluid in T2: bright both, and in T1 bright and dark."""
    rng = np.random.default_rng(3)
    deep = np.zeros((1, 40, 40))
    deep[:, 10:30, 10:30] = 1
    source = rng.choice([0.2, 0.9], deep.shape)
    truth = np.where(source > 0.5, np.where(deep > 0, 0.1, 0.8), 0.5)
    found = applied(fit(truth, source, sigma=6.0, gap=0.0, share=deep), source)
    assert np.abs(found - truth).max() < 0.01
    assert np.abs(applied(fit(truth, source, sigma=6.0, gap=0.0), source) - truth).max() > 0.2
