"""The training loss: eq. 12 of arXiv 2301.13743, our reading, in its denoising form.

    E  lambda(sigma) || s(x_sigma, LMI(x0', x_sigma), sigma) - grad log p(x_sigma | x0) ||^2

With s = (D - x_sigma) / sigma^2 and grad log p(x_sigma | x0) = (x0 - x_sigma) / sigma^2 the norm
is || D - x0 ||^2 / sigma^4; EDM's weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 on
|| D - x0 ||^2 gives every noise level a unit loss at the start of training. x0' is the training
image in the role of the source: a self-made source of another contrast.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .process import perturb


def denoising_loss(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    sigma: Tensor,
    noise: Tensor,
    sigma_data: float,
) -> Tensor:
    """Eq. 12 for one batch.

    Args:
        denoise: D with its condition, (x, sigma) -> estimate of x0.
        x0: clean images, [B, 1, H, W], model units.
        sigma: [B], model units.
        noise: standard normal, like `x0`.
        sigma_data: root mean square of what D denoises, model units.

    Returns:
        [B], the weighted squared error per image, mean over pixels.
    """
    estimate = denoise(perturb(x0, sigma, noise), sigma).float()
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    return weight * (estimate - x0).square().mean(dim=(1, 2, 3))
