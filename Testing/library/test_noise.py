"""The VE process against Monte Carlo and finite differences; the schedules and their promises."""

from __future__ import annotations

import math

import pytest
import torch
from midiffusion.diffusion.process import (
    VESDE,
    denoised_from_score,
    geometric_sigmas,
    karras_sigmas,
    perturb,
    score_from_denoised,
)
from midiffusion.errors import InvalidParameter

SDE = VESDE(sigma_min=0.01, sigma_max=40.0)
SCHEDULES = [karras_sigmas, geometric_sigmas]


def test_levels_run_from_sigma_min_to_sigma_max_and_time_inverts_them():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert SDE.sigma(0.0) == pytest.approx(0.01)
    assert SDE.sigma(1.0) == pytest.approx(40.0)
    torch.testing.assert_close(SDE.time(SDE.sigma(t)), t)
    assert SDE.time(SDE.sigma(0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_diffusion_squared_is_the_rate_of_the_variance(t):
    h = 1e-5
    rate = (SDE.sigma(t + h) ** 2 - SDE.sigma(t - h) ** 2) / (2 * h)
    assert SDE.diffusion(t) ** 2 == pytest.approx(rate, rel=1e-6)


def test_marginals_by_monte_carlo():
    """Simulated in small steps, the SDE has the marginals that `perturb` draws from."""
    sde = VESDE(sigma_min=0.05, sigma_max=5.0)
    generator = torch.Generator().manual_seed(3)
    paths, steps = 40_000, 400
    x0 = torch.full((paths,), 0.7, dtype=torch.float64)

    def normal() -> torch.Tensor:
        return torch.randn(paths, generator=generator, dtype=torch.float64)

    x = perturb(x0, sde.sigma_min, normal())
    checked = 0
    for step in range(steps):
        t = (step + 0.5) / steps
        x = x + sde.diffusion(t) * math.sqrt(1 / steps) * normal()
        if step + 1 in (100, 200, 400):
            sigma = sde.sigma((step + 1) / steps)
            drawn = perturb(x0, sigma, normal())
            for sample in (x, drawn):
                # five standard errors of the mean and of the standard deviation
                assert abs(sample.mean() - 0.7) < 5 * sigma / math.sqrt(paths)
                assert abs(sample.std() / sigma - 1) < 5 / math.sqrt(2 * paths)
            checked += 1
    assert checked == 3


def test_perturb_gives_every_image_its_own_level():
    x0 = torch.rand(3, 1, 4, 5)
    noise = torch.randn(3, 1, 4, 5)
    sigma = torch.tensor([0.0, 1.0, 2.5])
    together = perturb(x0, sigma, noise)
    for i in range(3):
        torch.testing.assert_close(together[i], perturb(x0[i], float(sigma[i]), noise[i]))
    torch.testing.assert_close(perturb(x0, torch.tensor(2.0), noise), x0 + 2 * noise)


def test_prior_is_noise_of_the_largest_level():
    noise = torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(SDE.prior(noise), 40.0 * noise)


def test_score_of_a_gaussian():
    """x0 ~ N(m, s^2): the posterior mean is known, and so is the score of N(m, s^2 + sigma^2)."""
    m, s, sigma = 0.4, 0.3, torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    variance = (s**2 + sigma**2).reshape(3, 1, 1, 1)
    denoised = m + s**2 / variance * (x - m)
    score = score_from_denoised(x, denoised, sigma)
    torch.testing.assert_close(score, -(x - m) / variance)
    torch.testing.assert_close(denoised_from_score(x, score, sigma), denoised)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 18])
def test_schedules_descend_from_sigma_max_to_zero(schedule, steps):
    sigmas = schedule(steps, 0.01, 40.0)
    assert sigmas.dtype == torch.float64 and sigmas.shape == (steps + 1,)
    assert sigmas[0] == 40.0 and sigmas[-1] == 0.0
    assert steps == 1 or sigmas[-2] == 0.01
    assert (sigmas.diff() < 0).all()


def test_schedules_space_the_levels_as_they_say():
    karras = karras_sigmas(12, 0.01, 40.0, rho=5.0)[:-1] ** (1 / 5.0)
    torch.testing.assert_close(karras.diff(), karras.diff()[:1].expand(11))
    geometric = geometric_sigmas(12, 0.01, 40.0)[:-1].log()
    torch.testing.assert_close(geometric.diff(), geometric.diff()[:1].expand(11))
    near = karras_sigmas(12, 0.01, 40.0, rho=1e6)[:-1].log()
    torch.testing.assert_close(near, geometric, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: karras_sigmas(0, 0.01, 40.0),
        lambda: geometric_sigmas(0, 0.01, 40.0),
        lambda: karras_sigmas(5, 0.0, 40.0),
        lambda: karras_sigmas(5, 0.01, 40.0, rho=0.0),
        lambda: geometric_sigmas(5, 2.0, 1.0),
        lambda: VESDE(0.0, 1.0),
        lambda: VESDE(1.0, 1.0),
        lambda: VESDE(1.0, math.inf),
        lambda: VESDE(math.nan, 1.0),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InvalidParameter):
        make()
