"""The marginals of the VE process, and the schedules."""

from __future__ import annotations

import pytest
import torch
from midiffusion.diffusion.process import (
    geometric_sigmas,
    karras_sigmas,
    perturb,
)
from midiffusion.errors import InvalidParameter

SCHEDULES = [karras_sigmas, geometric_sigmas]


def test_perturb_gives_every_image_its_own_level():
    x0 = torch.rand(3, 1, 4, 5)
    noise = torch.randn(3, 1, 4, 5)
    sigma = torch.tensor([0.0, 1.0, 2.5])
    together = perturb(x0, sigma, noise)
    for i in range(3):
        torch.testing.assert_close(together[i], perturb(x0[i], float(sigma[i]), noise[i]))
    torch.testing.assert_close(perturb(x0, torch.tensor(2.0), noise), x0 + 2 * noise)


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
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InvalidParameter):
        make()
