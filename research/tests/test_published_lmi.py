"""The published estimator: recorded outputs of the published code, and loops over pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from midiffusion_research.published_definition import published_definition
from midiffusion_research.published_lmi import published_lmi

RECORD = Path(__file__).parent / "data" / "lmi_reference.npz"
PAIRS = [("t1", "flair"), ("flair", "flair"), ("t1", "t1")]


def model_units(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32) / 255)[None, None]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("unit", ["norm", "bits"])
def test_recorded_outputs(number: int, pair: tuple[str, str], unit: str) -> None:
    """Everywhere, borders included. The first image of a name is the code's source."""
    with np.load(RECORD) as record:
        first, second = (model_units(record[f"{name}_{number}"]) for name in pair)
        expected = record[f"lmi_{pair[0]}_{pair[1]}_{unit}_{number}"]
    found = published_lmi(first, second, normalised=unit == "norm")
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-5, rtol=0)


def test_only_the_second_image_is_searched() -> None:
    with np.load(RECORD) as record:
        t1, flair = (model_units(record[f"{name}_0"]) for name in ("t1", "flair"))
        expected = record["lmi_t1_flair_norm_0"]
    assert np.abs(published_lmi(flair, t1)[0, 0].numpy() - expected).max() > 0.01


def oracle(u: np.ndarray, v: np.ndarray, shift: bool, normalised: bool) -> np.ndarray:
    """In float64, sample by sample; u and v hold whole grey levels."""
    bins = [255 / 26 * b for b in range(27)]
    height, width = u.shape
    reads = {-1: (0, -1, 0), 0: (-1, 0, 1), 1: (0, 1, 0)}

    def response(level: float) -> np.ndarray:
        return np.array([math.exp(-0.5 * ((level - b) / 8) ** 2) for b in bins])

    def at(image: np.ndarray, y: int, x: int) -> float:
        return float(image[y, x]) if 0 <= y < height and 0 <= x < width else 0.0

    def entropy(density: np.ndarray) -> float:
        density = density / (density.sum() + 1e-10)
        return -float((density * np.log2(density + 1e-10)).sum())

    def mosaic(y: int, x: int, ky: int, kx: int, py: int, px: int) -> float:
        axes = ((ky, py, y, height), (kx, px, x, width))
        outside = any(k == p != 0 and not 0 <= i + k < n for k, p, i, n in axes)
        return 0.0 if outside else at(v, y + reads[ky][py + 1], x + reads[kx][px + 1])

    result = np.full(u.shape, -np.inf)
    steps = (-1, 0, 1)
    for y, x in np.ndindex(u.shape):
        first = [response(at(u, y + py, x + px)) for py in steps for px in steps]
        for ky in steps if shift else (0,):
            for kx in steps if shift else (0,):
                second = [response(mosaic(y, x, ky, kx, py, px)) for py in steps for px in steps]
                joint = sum(np.outer(a, b) for a, b in zip(first, second, strict=True))
                h_u, h_v = entropy(sum(first)), entropy(sum(second))
                value = h_u + h_v - entropy(joint)
                if normalised:
                    value = 2 * (value + 1e-10) / (h_u + h_v + 1e-10)
                result[y, x] = max(result[y, x], value)
    return result


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_agrees_with_loops(shift: bool, normalised: bool) -> None:
    generator = np.random.default_rng(0)
    u = generator.integers(0, 256, (5, 4))
    v = generator.integers(100, 140, (5, 4))
    v[:, :2] = 17
    for a, b in ((u, v), (v, u), (v, v)):
        found = published_lmi(model_units(a), model_units(b), shift, normalised)[0, 0].numpy()
        np.testing.assert_allclose(found, oracle(a, b, shift, normalised), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 1.5])
def test_agrees_with_the_definition_in_and_out_of_range(shift: bool, scale: float) -> None:
    """Faint to far out of range: every group of patch extents is met. Odd sizes, a batch."""
    generator = torch.Generator().manual_seed(1)
    u = 0.5 + scale * (torch.rand(2, 1, 13, 7, generator=generator) - 0.5)
    u[0, :, 4:9, 1:6] = 0.4  # flat: shares nothing, unless the other image has left the bins
    v = 0.3 + scale * (torch.rand(2, 1, 13, 7, generator=generator) - 0.5)
    for normalised in (True, False):
        found = published_lmi(u, v, shift, normalised)
        for i in range(2):
            expected = published_definition(u[i, 0], v[i, 0], shift, normalised)
            torch.testing.assert_close(found[i, 0], expected, atol=1e-5, rtol=0)


def test_saturates_out_of_range_by_definition() -> None:
    """The layer of the models must not do this; the published code does."""
    u = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    found = published_lmi(u + 40, u - 40)
    torch.testing.assert_close(found, torch.full_like(found, 2.0))


def test_blocks_and_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(RECORD) as record:
        u, v = (model_units(record[f"{n}_0"])[..., 40:71, 30:67] for n in ("t1", "flair"))
    whole = published_lmi(u, v)
    monkeypatch.setattr("midiffusion_research.published_lmi.TILE_PIXELS", 150)
    monkeypatch.setattr("midiffusion_research.published_lmi.TILE_PATCHES", 7)
    torch.testing.assert_close(published_lmi(u, v), whole, atol=2e-6, rtol=0)
