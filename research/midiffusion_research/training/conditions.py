"""Conditions of the baselines, and eq. 12 with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.loss import denoising_loss
from torch import Tensor


class Condition(Protocol):
    """What the loss and the samplers ask of a condition, whatever its maps are."""

    def channels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """[B, C, H, W] for the state `x` [B, 1, H, W] at noise level `sigma`, a number or [B]."""
        ...

    def select(self, index: slice) -> Condition:
        """The condition of some of the slices."""
        ...


@dataclass(frozen=True)
class NoCondition:
    """The unconditional model: `maps` channels, every one zero."""

    maps: int

    def channels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Zeros [B, maps, H, W] for the state `x` [B, 1, H, W]."""
        return x.new_zeros(len(x), self.maps, *x.shape[2:])

    def select(self, index: slice) -> NoCondition:
        """The same, whichever slices."""
        return self


def conditioned_loss(
    denoiser: Denoiser, x0: Tensor, condition: Condition, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Eq. 12 for images [B, 1, H, W] at levels [B], one value for each image."""
    return denoising_loss(
        lambda x, level: denoiser(x, level, condition.channels(x, level)),
        x0,
        sigma,
        noise,
        denoiser.sigma_data,
    )


def draw_sigma(uniform: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """Log-normal noise levels, cut to the range of the sampler.

    uniform: [B] in (0, 1), one random number per image; stratified numbers cut the variance.
    mean, std: of ln(sigma). low, high: sigma_min and sigma_max. Returns [B], model units.
    """
    z = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
    return (mean + std * z).exp().clamp(low, high)
