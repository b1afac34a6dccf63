"""The variance-exploding (VE) process: the noise levels, and how a score and a denoiser relate.

Forward in time nothing but noise is added, dx = sqrt(d sigma^2/dt) dw, so that

    x_sigma = x0 + sigma z,    z ~ N(0, I)                                  (the marginal)

and sigma itself is the natural clock: time only says how fast it is run through. Everything here
is in model units (docs/deviations.md says where this departs from the paper). There is no step
count in the process: how finely it is cut is the affair of a schedule (`karras_sigmas`,
`geometric_sigmas`), which a sampler is given.

Training uses `perturb`, translating the range and prior of `VESDE` and `geometric_sigmas`. The rest
is the contract of the SDE, for those who write eq. 13 in its own time or bring a sampler or a score
model of another origin: the clock, the diffusion coefficient, the way between score and denoiser,
and the levels at equal steps of that clock.

Sources: Song et al. 2021, arXiv 2011.13456 (VE-SDE, geometric levels); Karras et al. 2022 ("EDM"),
arXiv 2206.00364 (score and denoiser, eq. 3; levels, eq. 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InvalidParameter

Scalar = TypeVar("Scalar", float, Tensor)


def _per_image(level: float | Tensor, x: Tensor) -> float | Tensor:
    """A level as a float or 0-d tensor as it is, levels [B] shaped to broadcast over x [B, ...]."""
    if isinstance(level, Tensor) and level.ndim == 1:
        return level.reshape(-1, *[1] * (x.ndim - 1)).to(x)
    return level


@dataclass(frozen=True)
class VESDE:
    """dx = sqrt(d sigma^2/dt) dw on t in [0, 1], sigma(t) = sigma_min (sigma_max / sigma_min)^t.

    At t = 0 the state is x0 + sigma_min z rather than x0 (arXiv 2011.13456, appendix C): the
    geometric clock never reaches 0. sigma_max should exceed the largest distance between training
    images for the prior N(0, sigma_max^2 I) to forget x0 (technique 1 of arXiv 2006.09011).

    Raises InvalidParameter unless 0 < sigma_min < sigma_max, both finite.
    """

    sigma_min: float = 0.01
    sigma_max: float = 40.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)

    def sigma(self, t: Scalar) -> Scalar:
        """Standard deviation of the noise at time t in [0, 1]; any shape."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time(self, sigma: Scalar) -> Scalar:
        """The t at which sigma(t) = sigma; sigma > 0, any shape."""
        span = math.log(self.sigma_max / self.sigma_min)
        if isinstance(sigma, Tensor):
            return torch.log(sigma / self.sigma_min) / span
        return math.log(sigma / self.sigma_min) / span

    def diffusion(self, t: Scalar) -> Scalar:
        """sqrt(d sigma^2/dt) at time t, which for geometric levels is sigma sqrt(2 ln ratio)."""
        return self.sigma(t) * math.sqrt(2.0 * math.log(self.sigma_max / self.sigma_min))

    def prior(self, noise: Tensor) -> Tensor:
        """The law at t = 1, where sampling starts: sigma_max noise, noise of any shape."""
        return self.sigma_max * noise


def perturb(x0: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """A draw of the marginal, x0 + sigma noise; the clock has no part in it.

    x0 and noise (standard normal) [B, ...]; sigma a float, or a tensor with one level for all ([])
    or one for each image ([B]).
    """
    return x0 + _per_image(sigma, x0) * noise


def score_from_denoised(x: Tensor, denoised: Tensor, sigma: float | Tensor) -> Tensor:
    """grad log p(x; sigma) = (D(x; sigma) - x) / sigma^2 (Tweedie; arXiv 2206.00364 eq. 3).

    x, denoised [B, ...]; sigma > 0 as a float, [] or [B].
    """
    level = _per_image(sigma, x)
    return (denoised - x) / (level * level)


def denoised_from_score(x: Tensor, score: Tensor, sigma: float | Tensor) -> Tensor:
    """The inverse: D(x; sigma) = x + sigma^2 grad log p(x; sigma)."""
    level = _per_image(sigma, x)
    return x + (level * level) * score


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Noise levels of arXiv 2206.00364 eq. 5: equally spaced in sigma^(1/rho), then 0.

    rho = 7 spends most steps at small noise, where an image's detail is decided. Returns float64
    [steps + 1], strictly descending from sigma_max over sigma_min to 0; with one step the levels
    are sigma_max and 0. Raises InvalidParameter for steps < 1, rho <= 0 or a range out of order.
    """
    if not rho > 0:
        raise InvalidParameter(f"rho is {rho}: the noise levels need a rho above 0.")
    _check_range(sigma_min, sigma_max)
    ramp = _ramp(steps)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _closed((top + ramp * (bottom - top)) ** rho, sigma_min, sigma_max)


def geometric_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels with equal ratios (arXiv 2011.13456, VE-SDE: equal steps of t), then 0.

    Returns and raises as `karras_sigmas`, whose limit for a large rho this is.
    """
    _check_range(sigma_min, sigma_max)
    ramp = _ramp(steps)
    return _closed(sigma_max * (sigma_min / sigma_max) ** ramp, sigma_min, sigma_max)


# steps, sigma_min, sigma_max -> levels, as the two above.
Schedule = Callable[[int, float, float], Tensor]


def _ramp(steps: int) -> Tensor:
    """0 to 1 in `steps` equally spaced values (only 0 if there is but one)."""
    if steps < 1:
        raise InvalidParameter(f"steps is {steps}: at least 1 is needed.")
    return torch.linspace(0.0, 1.0, steps, dtype=torch.float64)


def _closed(sigmas: Tensor, sigma_min: float, sigma_max: float) -> Tensor:
    """Both ends exact (powers and roots round), and the final 0 appended."""
    sigmas[-1] = sigma_min
    sigmas[0] = sigma_max
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0.0 < sigma_min < sigma_max < math.inf:
        raise InvalidParameter(
            f"the noise range {sigma_min} to {sigma_max} must be finite, above 0 and ascending."
        )
