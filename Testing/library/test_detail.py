"""Detail from the source: the guided filter against least squares written out, and its parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion import detail
from midiffusion.detail import guides, in_layers, layer_shares, local_fit
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def fit(
    result: Array, source: Array, sigma: float, gap: float, share: Array | None = None
) -> Array:
    found = local_fit(
        torch.from_numpy(result),
        torch.from_numpy(source),
        None if share is None else torch.from_numpy(np.stack([share, 1 - share], axis=1)),
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


def rings(pixels: int, pixel_mm: float, *rings_mm: tuple[float, float]) -> tuple[Tensor, Array]:
    """A round head on the middle of [1, 1, pixels, pixels]: (radius, brightness inside of it), the
    outermost first; and distances from there."""
    y, x = (np.mgrid[:pixels, :pixels] - (pixels - 1) / 2) * pixel_mm
    radius = np.hypot(y, x)
    image = np.zeros_like(radius)
    for reach, brightness in rings_mm:
        image[radius < reach] = brightness
    return torch.from_numpy(image)[None, None].float(), radius


def reach(share: Array, pixel_mm: float) -> list[float]:
    """How far a share of more than a half reaches from the middle, millimetres, four ways."""
    half, middle = share > 0.5, len(share) // 2
    turned = (half, half.T, half[::-1], half[:, ::-1])
    return [(middle - image[middle, :middle].argmax()) * pixel_mm for image in turned]


BONE = (55, 0.08)
FLUID = 0.2


@pytest.mark.parametrize("pixel_mm", [1.0, 1.667, 2.5])
@pytest.mark.parametrize("noise", [0.0, 0.04])
@pytest.mark.parametrize(
    ("inside", "brain", "deep"),
    [
        ([(47, 0.5)], 47, 47),  # up to the bone, though that is nearer to the surface than 16 mm
        ([(40, 0.5)], 40, 44),  # bone as thick as here, or dark fluid: 16 mm decide
        ([(47, 0.9), (40, 0.5)], 47, 47),  # bright fluid belongs to it
    ],
)
def test_the_brain_reaches_up_to_what_is_dark(
    inside: list[tuple[float, float]], brain: float, deep: float, noise: float, pixel_mm: float
) -> None:
    pixels = 2 * round(75 / pixel_mm)
    source, radius = rings(pixels, pixel_mm, (60, 0.7), BONE, *inside, (15, FLUID))
    generator = torch.Generator().manual_seed(6)
    real, imaginary = noise * torch.randn(2, *source.shape, generator=generator)
    noisy = ((source + real) ** 2 + imaginary**2).sqrt()
    shares = layer_shares(noisy, slice(0, pixels), slice(0, pixels), pixel_mm)[0].double().numpy()
    tissue, fluid, surface = shares
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-6)
    assert shares.min() >= 0
    margin = 5 + 2 * pixel_mm
    assert tissue[(radius > 15 + margin) & (radius < brain - margin)].min() > 0.9
    assert fluid[radius < 15 - margin].min() > 0.9
    assert surface[radius > deep + margin].min() > 0.95
    for share, edge in ((tissue + (radius < 20), brain), (1 - surface, deep)):
        assert all(abs(mm - edge) < 1.5 + pixel_mm for mm in reach(share, pixel_mm))


def test_tissue_ends_below_the_skin_where_there_is_no_bone() -> None:
    source, _ = rings(130, 1.0, (60, 0.5))
    tissue = layer_shares(source, slice(0, 130), slice(0, 130), 1.0)[0, 0].numpy()
    assert all(abs(mm - (60 - 8)) < 2 for mm in reach(tissue, 1.0))
    row = tissue[65, :65]
    assert 4 <= ((row > 0.1) & (row < 0.9)).sum() <= 10  # mm; of a Gaussian of 2.5 mm: 6.4


def test_a_slice_without_a_core_has_no_tissue_and_disturbs_no_other() -> None:
    small, _ = rings(130, 1.0, (25, 0.5))
    large, _ = rings(130, 1.0, (60, 0.7), BONE, (47, 0.5))
    place = (slice(0, 130), slice(0, 130), 1.0)
    both = layer_shares(torch.cat([small, large]), *place)
    assert not both[0, 0].any()
    assert all(abs(mm - (25 - 16)) < 2 for mm in reach(both[0, 1].numpy(), 1.0))
    torch.testing.assert_close(both[1:], layer_shares(large, *place))


@pytest.mark.parametrize("fluid", [FLUID, 0.9])
def test_large_ventricles_are_not_taken_for_what_tissue_is(
    fluid: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    brain = (60, 0.7), BONE, (47, 0.5)
    usual, _ = rings(130, 1.0, *brain)
    wide, radius = rings(130, 1.0, *brain, (28, fluid))  # nearly all of the core
    stack = torch.cat([usual, usual, usual, wide])
    shares = layer_shares(stack, slice(0, 130), slice(0, 130), 1.0)
    tissue = shares[3, 0].numpy()
    assert tissue[(radius > 36) & (radius < 40)].min() > 0.9
    assert (tissue[radius < 20].max() < 0.1) == (fluid < 0.5)
    monkeypatch.setattr(detail, "_SHARED_AT_ONCE", 3)
    torch.testing.assert_close(layer_shares(stack, slice(0, 130), slice(0, 130), 1.0), shares)


def test_a_cut_is_no_surface_whatever_the_padding() -> None:
    source, _ = rings(96, 2.0, (60, 0.5))
    cut = source[..., 30:, :]
    alone = layer_shares(cut, slice(0, 66), slice(0, 96), 2.0)
    assert alone[0, 0, 0, 48] > 0.99
    padded = layer_shares(
        torch.nn.functional.pad(cut, (8, 8, 6, 8)), slice(6, 72), slice(8, 104), 2.0
    )
    torch.testing.assert_close(padded[..., 6:72, 8:104], alone)


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
