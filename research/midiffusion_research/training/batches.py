"""One batch of the published training: eq. 12 on images whose contrast is randomised."""

from __future__ import annotations

import torch
from midiffusion.diffusion.conditioning import LMISettings
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.network import UNet, UNetConfig
from torch import Tensor

from .conditions import draw_sigma
from .configuration import TrainingConfig

BONE_HU = 250.0


def build_denoiser(config: TrainingConfig, sigma_data: float) -> Denoiser:
    """A fresh denoiser; its initial weights depend on `config.seed` alone."""
    settings = LMISettings(**config.lmi)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = UNet(UNetConfig(cond_channels=settings.channels, **config.network))
    return Denoiser(network, sigma_data)


def levels_and_noise(
    config: TrainingConfig, x0: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels [B], model units, and standard normal noise for images [B, 1, H, W]."""
    count = len(x0)
    # Stratified over the batch: every batch sees the whole range of noise levels.
    strata = (torch.arange(count) + torch.rand(count, generator=g)) / count
    sigma = draw_sigma(
        strata, config.sigma_mean, config.sigma_std, config.sigma_min, config.sigma_max
    )
    return sigma, torch.randn(x0.shape, generator=g)
