"""What holds of the layer whatever the images: symmetry, invariance, bounds; and refusals."""

from __future__ import annotations

import pytest
import torch
from library.conftest import SEARCH, related_images
from midiffusion.errors import InvalidParameter
from midiffusion.lmi import LocalMutualInformation


@pytest.mark.parametrize("normalised", [False, True])
def test_symmetric_without_search(normalised: bool) -> None:
    u, v = related_images(2, 1, 8, 9)
    layer = LocalMutualInformation(normalised=normalised)
    torch.testing.assert_close(layer(u, v), layer(v, u), atol=1e-12, rtol=0)


def test_search_shifts_the_second_image() -> None:
    """A copy moved by one pixel is found again; the first image is not searched."""
    u, _ = related_images(1, 1, 10, 10)
    moved = u.roll((1, -1), (2, 3))
    layer = LocalMutualInformation(search="shift", normalised=False)
    inside = (..., slice(2, -2), slice(2, -2))
    at_home = LocalMutualInformation(normalised=False)(u, u)
    assert (layer(u, moved)[inside] >= at_home[inside] - 1e-12).all()
    assert not torch.allclose(layer(u, moved), layer(moved, u))


@SEARCH
def test_constant_patches_share_nothing(search: str) -> None:
    u, v = related_images(1, 1, 9, 9)
    v[...] = 0.37
    u[..., :5, :5] = 0.2
    layer = LocalMutualInformation(search=search)
    for dtype in (torch.float32, torch.float64):
        a, b = u.to(dtype), v.to(dtype)
        assert layer(a, b).abs().max() < 1e-6
        assert layer(b, b).abs().max() < 1e-6
    assert layer(u, v).abs().max() == 0


def test_nearly_flat_patches_keep_their_digits() -> None:
    """In float32, rounding must not look like structure."""
    u, _ = related_images(1, 1, 8, 8)
    faint = 0.5 + 1e-4 * u
    layer = LocalMutualInformation(bandwidths=(0.04,))
    expected = layer(faint.float().double(), faint.float().double())
    torch.testing.assert_close(
        layer(faint.float(), faint.float()).double(), expected, atol=1e-5, rtol=0
    )
    assert expected.max() < 1e-3


def test_inverted_contrast_changes_nothing() -> None:
    """Exactly: differences keep their size."""
    u, v = related_images(2, 1, 7, 8)
    layer = LocalMutualInformation(dilations=(1, 2), search="shift")
    expected = layer(u, v)
    for a, b in ((1 - u, v), (u, 1 - v), (1 - u, 1 - v)):
        torch.testing.assert_close(layer(a, b), expected, atol=1e-9, rtol=0)


def test_kde_knows_differences_alone() -> None:
    """Shifted intensities change nothing; scaled ones nothing if the kernel is scaled too."""
    u, v = related_images(1, 1, 7, 8)
    expected = LocalMutualInformation(bandwidths=(0.05,))(u, v)
    shifted = LocalMutualInformation(bandwidths=(0.05,))(u + 7, v - 3)
    scaled = LocalMutualInformation(bandwidths=(0.15,))(3 * u, 3 * v)
    torch.testing.assert_close(shifted, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(scaled, expected, atol=1e-9, rtol=0)


@SEARCH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_does_not_saturate_under_noise(search: str, dtype: torch.dtype) -> None:
    """The published estimator reaches its maximum where noise leaves its bins."""
    u, _ = related_images(1, 1, 24, 24)
    u = u.clamp(0, 1)
    noise = torch.randn(u.shape, generator=torch.Generator().manual_seed(3), dtype=u.dtype)
    layer = LocalMutualInformation(search=search)
    for sigma in (0.5, 2.0, 10.0, 100.0, 1e4):
        x = u + sigma * noise
        blind = layer(u.to(dtype), x.to(dtype))
        told = layer(u.to(dtype), x.to(dtype), torch.tensor([sigma]))
        for found in (blind, told):
            assert torch.isfinite(found).all()
            assert found.min() >= 0 and found.max() <= 1
            # At the border, repeated samples are equal in both images: shared structure.
            assert found[..., 1:-1, 1:-1].max() < 0.999
        assert told.max() < 0.95
        assert told.mean() < 0.6 * blind.mean()


def test_normalised_information_lies_in_the_unit_interval() -> None:
    u, v = related_images(2, 1, 16, 16)
    layer = LocalMutualInformation(dilations=(1, 4), search="shift")
    for found in (layer(u, v), layer(u, u)):
        assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"search": "everywhere"},
        {"size": 4},
        {"size": 1},
        {"dilations": ()},
        {"dilations": (0,)},
        {"bandwidths": (0.0,)},
        {"bandwidths": ()},
    ],
    ids=str,
)
def test_refuses_what_it_cannot_do(options: dict) -> None:
    with pytest.raises(InvalidParameter, match="LMI"):
        LocalMutualInformation(**options)


def test_refuses_images_that_do_not_fit() -> None:
    layer = LocalMutualInformation()
    for u, v in ((torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 5)), (torch.rand(4, 4),) * 2):
        with pytest.raises(InvalidParameter, match="one shape"):
            layer(u, v)
