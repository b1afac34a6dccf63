"""LMI-gradient guidance on a toy whose denoiser is known: Gaussian data round a mean image."""

from __future__ import annotations

import math

import pytest
import torch
from midiffusion.diffusion.process import karras_sigmas
from midiffusion.diffusion.samplers import dpmpp_2m
from midiffusion.errors import InvalidParameter
from midiffusion.lmi import LocalMutualInformation
from midiffusion_research.guidance import lmi_guidance
from torch import Tensor

SIGMA_DATA = 0.3
LMI = LocalMutualInformation("kde", bandwidths=(0.12,))


def pictures(count: int = 3, size: int = 16) -> Tensor:
    """Smooth structured images in [0, 1], no two alike."""
    y, x = torch.meshgrid(torch.linspace(0, 3, size), torch.linspace(0, 3, size), indexing="ij")
    images = [0.5 + 0.4 * torch.sin((i + 2) * x + i) * torch.cos((i + 1) * y) for i in range(count)]
    return torch.stack(images)[:, None]


def denoise(x: Tensor, sigma: float) -> Tensor:
    """E[x0 | x] for x0 ~ N(0.5, SIGMA_DATA^2): knows nothing of the source."""
    return 0.5 + SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2) * (x - 0.5)


def noisy(like: Tensor, sigma: float, seed: int = 0) -> Tensor:
    return like + sigma * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def agreement(source: Tensor, estimate: Tensor) -> Tensor:
    return LMI(source, estimate).mean(dim=(1, 2, 3))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_the_estimate_agrees_more_with_the_source(sigma):
    source = pictures()
    x = noisy(1 - source, sigma)
    plain = agreement(source, denoise(x, sigma))
    guided = agreement(source, lmi_guidance(denoise, source, LMI, 0.2)(x, sigma))
    assert (guided > plain + 0.01).all(), (plain, guided)


def test_a_whole_sample_agrees_more_with_the_source():
    source = pictures()
    start = noisy(torch.zeros_like(source), 10.0)
    sigmas = karras_sigmas(20, 0.01, 10.0)
    plain = dpmpp_2m(denoise, start, sigmas)
    guided = dpmpp_2m(lmi_guidance(denoise, source, LMI, 0.5), start, sigmas)
    assert (agreement(source, guided) > agreement(source, plain) + 0.02).all()


def test_scale_zero_is_the_denoiser_itself():
    assert lmi_guidance(denoise, pictures(), LMI, 0.0) is denoise


@pytest.mark.parametrize("sigma", [0.01, 0.5, 40.0])
def test_the_estimate_moves_by_scale_standard_deviations_along_the_gradient(sigma):
    source = pictures().double()
    x = noisy(source.float(), 0.2).double()  # off the source, where the gradient is clear

    def fixed(x: Tensor, sigma: float) -> Tensor:
        return x

    moved = lmi_guidance(fixed, source, LMI, 0.3, sigma_data=SIGMA_DATA)(x, sigma) - x
    posterior = math.sqrt(1 / (1 / sigma**2 + 1 / SIGMA_DATA**2))
    size = moved.square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(size, torch.full_like(size, 0.3 * posterior))
    # finite differences along the move and across it
    unit = moved / moved.flatten(1).norm(dim=1)[:, None, None, None]
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    across = other - unit * (other * unit).sum(dim=(1, 2, 3), keepdim=True)
    across = across / across.flatten(1).norm(dim=1)[:, None, None, None]

    def rate(direction: Tensor) -> Tensor:
        h = 1e-5
        return (agreement(source, x + h * direction) - agreement(source, x - h * direction)) / h

    assert (rate(unit) > 0).all()
    assert (rate(across).abs() < 1e-4 * rate(unit)).all()


def test_no_image_knows_of_the_others_nor_of_the_batch():
    source = pictures(5)
    x = noisy(source, 0.5)
    together = lmi_guidance(denoise, source, LMI, 0.3)(x, 0.5)
    for batch in (1, 2, 5):
        again = lmi_guidance(denoise, source, LMI, 0.3, batch=batch)(x, 0.5)
        torch.testing.assert_close(again, together, rtol=0, atol=1e-6)
    alone = lmi_guidance(denoise, source[3:4], LMI, 0.3)(x[3:4], 0.5)
    torch.testing.assert_close(alone, together[3:4], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(mode):
    source = pictures()
    x = noisy(source, 0.5)
    expected = lmi_guidance(denoise, source, LMI, 0.3)(x, 0.5)
    with mode():
        found = lmi_guidance(denoise, source + 0.0, LMI, 0.3)(x + 0.0, 0.5)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_where_there_is_no_gradient_nothing_moves():
    flat = torch.zeros(2, 1, 8, 8)
    moved = lmi_guidance(denoise, flat, LMI, 0.5)(flat, 1.0)
    torch.testing.assert_close(moved, denoise(flat, 1.0))


def test_what_makes_no_sense_is_refused():
    source = pictures()
    for wrong in ({"sigma_data": 0.0}, {"batch": 0}):
        with pytest.raises(InvalidParameter):
            lmi_guidance(denoise, source, LMI, 0.3, **wrong)
    with pytest.raises(InvalidParameter):
        lmi_guidance(denoise, source, LMI, 0.3)(source[:1], 1.0)
