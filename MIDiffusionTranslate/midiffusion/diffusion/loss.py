"""The training loss: eq. 12 of arXiv 2301.13743, our reading, in its denoising form.

    E  lambda(sigma) || s(x_sigma, LMI(x0', x_sigma), sigma) - grad log p(x_sigma | x0) ||^2

With s = (D - x_sigma) / sigma^2 and grad log p(x_sigma | x0) = (x0 - x_sigma) / sigma^2 the norm
is || D - x0 ||^2 / sigma^4; EDM's weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 on
|| D - x0 ||^2 gives every noise level a unit loss at the start of training. x0' is the training
image in the role of the source, with its contrast randomised.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conditioning import Condition
from .denoiser import Denoiser
from .process import perturb


def draw_sigma(uniform: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """Noise levels of training: log-normal, cut to the range the sampler uses.

    Args:
        uniform: [B] in (0, 1), one random number per image. Stratified numbers cut the variance.
        mean, std: of ln(sigma).
        low, high: sigma_min and sigma_max, model units.

    Returns:
        [B], model units.
    """
    z = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
    return (mean + std * z).exp().clamp(low, high)


def denoising_loss(
    denoiser: Denoiser, x0: Tensor, condition: Condition, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Eq. 12 for one batch.

    Args:
        denoiser: D.
        x0: clean images, [B, 1, H, W], model units.
        condition: made from the pseudo-source of each image, with its dropout.
        sigma: [B], model units.
        noise: standard normal, like `x0`.

    Returns:
        [B], the weighted squared error per image, mean over pixels.
    """
    x = perturb(x0, sigma, noise)
    denoised = denoiser(x, sigma, condition.channels(x, sigma))
    weight = (sigma**2 + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data) ** 2
    return weight * (denoised - x0).square().mean(dim=(1, 2, 3))
