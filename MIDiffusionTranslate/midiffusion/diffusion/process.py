"""The variance-exploding (VE) process: noise is added and nothing else, dx = sqrt(d sigma^2/dt) dw:

    x_sigma = x0 + sigma z,    z ~ N(0, I)                                  (the marginal)

sigma itself is the clock, in model units. A schedule gives the levels at which a sampler works.

Sources: Song et al. 2021, arXiv 2011.13456 (VE-SDE, geometric levels); Karras et al. 2022 ("EDM"),
arXiv 2206.00364 (levels, eq. 5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidParameter


def _per_image(level: float | Tensor, x: Tensor) -> float | Tensor:
    """A level as a float or 0-d tensor as it is, levels [B] shaped to broadcast over x [B, ...]."""
    if isinstance(level, Tensor) and level.ndim == 1:
        return level.reshape(-1, *[1] * (x.ndim - 1)).to(x)
    return level


def perturb(x0: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """A draw of the marginal, x0 + sigma noise.

    x0 and noise (standard normal) [B, ...]; sigma a float, or a tensor with one level for all ([])
    or one for each image ([B]).
    """
    return x0 + _per_image(sigma, x0) * noise


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
