"""The samplers against laws that are known exactly: a Gaussian mixture and a single Gaussian.

Orders of convergence are measured, not assumed: the ODE solvers against SciPy on an independently
written score, eq. 13 by its exact mean and variance, the corrector by the energy distance.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from midiffusion.diffusion.process import geometric_sigmas, karras_sigmas
from midiffusion.diffusion.samplers import (
    CORRECTOR_KEYS,
    SAMPLERS,
    dpmpp_2m,
    euler_maruyama,
    heun,
    predictor_corrector,
)
from midiffusion.errors import InvalidParameter
from scipy.integrate import solve_ivp
from scipy.special import erf
from torch import Tensor

SIGMA_MIN, SIGMA_MAX = 0.02, 10.0
WEIGHTS, MEANS, WIDTHS = [0.3, 0.5, 0.2], [-1.0, 0.4, 1.5], [0.15, 0.3, 0.1]


def mixture_denoiser(x: Tensor, sigma: float) -> Tensor:
    """E[x0 | x] for the one-dimensional mixture: posterior means, weighted by responsibility."""
    mean, variance = torch.tensor([MEANS, [w**2 for w in WIDTHS]], dtype=x.dtype)
    total = variance + sigma**2
    away = x[..., None] - mean
    log_weight = torch.tensor(WEIGHTS, dtype=x.dtype).log() - total.log() / 2
    responsibility = torch.softmax(log_weight - away**2 / (2 * total), dim=-1)
    return (responsibility * (mean + variance / total * away)).sum(-1)


def mixture_score(x: np.ndarray, sigma: float) -> np.ndarray:
    """The derivative of the log density of x0 + sigma z, from the density itself."""
    total = np.square(WIDTHS) + sigma**2
    away = x[:, None] - np.array(MEANS)
    parts = np.array(WEIGHTS) * np.exp(-(away**2) / (2 * total)) / np.sqrt(total)
    return -(parts * away / total).sum(1) / parts.sum(1)


def normal_of(key: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(key)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def slope(counts: list[int], errors: list[float]) -> float:
    """The order: minus the slope of log error over log steps."""
    return -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])


@pytest.mark.parametrize("solver", [heun, dpmpp_2m])
@pytest.mark.parametrize("schedule", [karras_sigmas, geometric_sigmas])
def test_ode_solvers_are_of_second_order(solver, schedule):
    start = SIGMA_MAX * torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
    path = solve_ivp(
        lambda sigma, x: -sigma * mixture_score(x, sigma),
        (SIGMA_MAX, SIGMA_MIN),
        start.numpy(),
        method="DOP853",
        rtol=1e-11,
        atol=1e-12,
    )
    # The last step, from sigma_min to 0, is the same for any number of steps: x + sigma^2 s.
    end = path.y[:, -1]
    exact = torch.from_numpy(end + SIGMA_MIN**2 * mixture_score(end, SIGMA_MIN))
    counts = [48, 96, 192, 384]
    errors = [
        (solver(mixture_denoiser, start, schedule(count, SIGMA_MIN, SIGMA_MAX)) - exact)
        .abs()
        .mean()
        .item()
        for count in counts
    ]
    assert slope(counts, errors) == pytest.approx(2.0, abs=0.3), errors
    assert errors[-1] < 1e-3


def test_dpmpp_2m_takes_the_middle_of_uneven_steps():
    """Where D is linear in log sigma, its value in the middle of every step is found exactly."""
    levels = [8.0, 5.0, 1.0, 0.7, 0.1, 0.0]
    states: list[Tensor] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        states.append(x)
        return torch.full_like(x, math.log(sigma))

    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    dpmpp_2m(denoise, start, torch.tensor(levels, dtype=torch.float64))
    for step in (1, 2, 3):
        high, low = levels[step], levels[step + 1]
        middle = math.log(math.sqrt(high * low))
        expected = low / high * states[step] + (1 - low / high) * middle
        torch.testing.assert_close(states[step + 1], expected)


@pytest.mark.parametrize("schedule", [karras_sigmas, geometric_sigmas])
def test_euler_maruyama_has_weak_order_one(schedule):
    """For x0 ~ N(m, s^2) the denoiser is affine, and so is the sampler in its start and its noise.

    Running it on the unit vectors of that space gives its coefficients, hence the mean and the
    variance of its law without any sampling.
    """
    m, s = 0.5, 0.3

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return m + s**2 / (s**2 + sigma**2) * (x - m)

    def law(steps: int) -> tuple[float, float]:
        units = torch.eye(steps + 1, dtype=torch.float64)
        units = torch.cat([torch.zeros(1, steps + 1, dtype=torch.float64), units])
        start = math.sqrt(s**2 + SIGMA_MAX**2)  # the exact marginal: no error from the prior
        out = euler_maruyama(
            denoise,
            m + start * units[:, 0],
            schedule(steps, SIGMA_MIN, SIGMA_MAX),
            noise=lambda key: units[:, key],
        )
        return out[0].item(), (out[1:] - out[0]).square().sum().item()

    shrink = s**2 / (s**2 + SIGMA_MIN**2)
    exact = shrink**2 * (s**2 + SIGMA_MIN**2)
    counts = [50, 100, 200, 400]
    laws = [law(count) for count in counts]
    errors = [abs(variance - exact) for _, variance in laws]
    assert slope(counts, errors) == pytest.approx(1.0, abs=0.3), errors
    assert all(mean == pytest.approx(m, abs=1e-9) for mean, _ in laws)


def energy_distance(sample: Tensor) -> float:
    """Twice the integral of (F_sample - F)^2, F the mixture's distribution function."""
    grid = np.linspace(-3.0, 3.5, 4001)
    scaled = (grid[:, None] - np.array(MEANS)) / (np.array(WIDTHS) * math.sqrt(2))
    exact = (np.array(WEIGHTS) * (1 + erf(scaled)) / 2).sum(1)
    empirical = np.searchsorted(np.sort(sample.numpy()), grid, side="right") / len(sample)
    return float(2 * np.trapezoid((empirical - exact) ** 2, grid))


def test_corrections_bring_the_law_nearer():
    sigmas = karras_sigmas(8, SIGMA_MIN, SIGMA_MAX)
    start = SIGMA_MAX * normal_of(0, torch.empty(40_000, dtype=torch.float64))
    distances = [
        energy_distance(
            predictor_corrector(
                mixture_denoiser,
                start,
                sigmas,
                noise=lambda key: normal_of(key, start),
                corrections=corrections,
            )
        )
        for corrections in (0, 1, 3, 9, 27)
    ]
    assert distances == sorted(distances, reverse=True), distances
    assert distances[-1] < distances[0] / 8, distances


def test_without_corrections_the_predictor_is_euler_maruyama():
    x = normal_of(1, torch.empty(5, 1, 3, 4))
    sigmas = karras_sigmas(6, SIGMA_MIN, SIGMA_MAX)
    settings = {"noise": lambda key: normal_of(key, x)}
    torch.testing.assert_close(
        predictor_corrector(mixture_denoiser, x, sigmas, corrections=0, **settings),
        euler_maruyama(mixture_denoiser, x, sigmas, **settings),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_evaluations_steps_and_keys_are_as_declared(name, steps):
    sampler = SAMPLERS[name]
    levels: list[float] = []
    keys: list[int] = []
    seen: list[tuple[int, int]] = []
    newest: list[Tensor] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        assert isinstance(sigma, float) and sigma > 0
        levels.append(sigma)
        newest[:] = [mixture_denoiser(x, sigma)]
        return newest[0]

    def noise(key: int) -> Tensor:
        keys.append(key)
        return normal_of(key, start)

    def on_step(step: int, of: int, denoised: Tensor) -> None:
        seen.append((step, of))
        assert denoised is newest[0]

    start = SIGMA_MAX * normal_of(0, torch.empty(2, 1, 4, 4, dtype=torch.float64))
    sigmas = karras_sigmas(steps, SIGMA_MIN, SIGMA_MAX)
    out = sampler.sample(denoise, start, sigmas, noise=noise, on_step=on_step)
    assert len(levels) == sampler.evaluations(steps)
    assert sampler.steps(len(levels)) == steps
    assert seen == [(step + 1, steps) for step in range(steps)]
    torch.testing.assert_close(out, newest[0])  # the last step returns the denoiser's estimate
    assert set(levels) == set(sigmas[:-1].tolist())
    assert bool(keys) == (sampler.stochastic and steps > 1)
    assert len(set(keys)) == len(keys) and 0 not in keys
    assert {key % CORRECTOR_KEYS for key in keys} <= set(range(1, steps))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_budget_is_never_exceeded_nor_a_step_wasted(name):
    sampler = SAMPLERS[name]
    for budget in range(1, 30):
        steps = sampler.steps(budget)
        assert sampler.evaluations(steps) <= budget < sampler.evaluations(steps + 1)
    assert SAMPLERS["heun"].steps(9) == 5
    with pytest.raises(InvalidParameter):
        sampler.steps(0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_do_not_touch_and_the_state_keeps_its_dtype(name, dtype):
    """Each image alone comes out as in the batch; a float32 network may serve a float64 state."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return mixture_denoiser(x.float(), sigma)

    start = SIGMA_MAX * normal_of(0, torch.empty(3, 1, 4, 5, dtype=dtype))
    before = start.clone()
    sigmas = karras_sigmas(6, SIGMA_MIN, SIGMA_MAX)

    def run(x: Tensor) -> Tensor:
        return SAMPLERS[name].sample(
            denoise, x, sigmas, noise=lambda key: normal_of(key, start[:1])
        )

    together = run(start)
    alone = torch.cat([run(start[i : i + 1]) for i in range(3)])
    assert together.dtype == dtype
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(start, before, rtol=0, atol=0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("levels", [[0.0], [1.0, 0.5], [0.5, 1.0, 0.0], [1.0, 1.0, 0.0]])
def test_levels_that_do_not_descend_to_zero_are_refused(name, levels):
    x = torch.zeros(3)
    with pytest.raises(InvalidParameter):
        SAMPLERS[name].sample(mixture_denoiser, x, torch.tensor(levels), noise=lambda key: x)


def test_stochastic_samplers_ask_for_noise_and_a_sound_corrector():
    x, sigmas = torch.zeros(3), karras_sigmas(3, 0.1, 1.0)
    for sampler in SAMPLERS.values():
        if sampler.stochastic:
            with pytest.raises(InvalidParameter):
                sampler.sample(mixture_denoiser, x, sigmas)
    for wrong in ({"corrections": -1}, {"signal_to_noise": 0.0}, {"signal_to_noise": 1.0}):
        with pytest.raises(InvalidParameter):
            predictor_corrector(mixture_denoiser, x, sigmas, noise=lambda key: x, **wrong)
