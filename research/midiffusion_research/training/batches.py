"""One batch of the published training: eq. 12 on images whose contrast is randomised."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from midiffusion.diffusion.conditioning import LMICondition, LMISettings
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.network import UNet, UNetConfig
from midiffusion.images.intensity import HounsfieldIntensity, intensity_map
from torch import Tensor

from .augmentation import RandomContrast, RandomExtraction, RandomFieldOfView, RandomGeometry
from .conditions import DroppedCondition, conditioned_loss, draw_sigma
from .configuration import TrainingConfig

BONE_HU = 250.0


def build_denoiser(config: TrainingConfig, sigma_data: float) -> Denoiser:
    """A fresh denoiser; its initial weights depend on `config.seed` alone."""
    settings = LMISettings(**config.lmi)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = UNet(UNetConfig(cond_channels=settings.channels, **config.network))
    return Denoiser(network, sigma_data)


def moved(config: TrainingConfig, x0: Tensor, g: torch.Generator) -> Tensor:
    """Images [B, 1, H, W] after random geometry and, some of them, extraction or a cut."""
    mapping, bone = intensity_map(config.intensity), None
    if isinstance(mapping, HounsfieldIntensity):
        bone = float(mapping.forward(np.array(BONE_HU))[0])
    for random in (
        RandomGeometry(),
        RandomExtraction(config.extraction, bone),
        RandomFieldOfView(config.cut),
    ):
        x0 = random.apply(x0, random.draw(len(x0), g))
    return x0


def batch_loss(
    config: TrainingConfig,
    denoiser: Denoiser,
    x0: Tensor,
    dropout: float,
    g: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Mean of eq. 12 over images, each with a pseudo-source and noise drawn from a generator.

    Args:
        config: its LMI, contrast, noise levels and precision.
        denoiser: the network to judge, on `device`.
        x0: clean images after geometry, extraction and cut, [B, 1, H, W], model units, on the CPU.
        dropout: share of the images without a condition.
        g: every random number comes from it, in a fixed order.
        device: where the loss is computed.

    Returns:
        A scalar.
    """
    contrast, count = RandomContrast(**config.contrast), len(x0)
    pseudo_source = contrast.apply(x0, contrast.draw(x0, g))
    keep = (torch.rand(count, generator=g) >= dropout).float()
    sigma, noise = levels_and_noise(config, x0, g)
    x0, sigma, noise = x0.to(device), sigma.to(device), noise.to(device)
    settings = LMISettings(**config.lmi)
    condition = DroppedCondition(LMICondition(pseudo_source.to(device), settings), keep.to(device))
    with _autocast(config.precision, device):
        return conditioned_loss(denoiser, x0, condition, sigma, noise).mean()


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


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
