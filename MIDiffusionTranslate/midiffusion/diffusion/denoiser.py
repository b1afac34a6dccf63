"""Preconditioning around the network: (x, sigma, cond) -> an estimate of the clean image x0.

Karras et al., arXiv 2206.00364 (EDM), table 1 and section 5: the same variance-exploding process
x = x0 + sigma z as the paper's, with the network's input, output and target scaled so that each has
unit variance at every sigma. The score follows as (D(x, sigma) - x) / sigma^2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import UNet


class Denoiser(nn.Module):
    """D(x, sigma, cond) = c_skip x + c_out F(c_in x, c_noise, cond).

    Args:
        network: F, called as `network(x, c_noise, cond)`.
        sigma_data: root mean square of the training images in model units.
    """

    def __init__(self, network: UNet, sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, sigma: Tensor | float, cond: Tensor) -> Tensor:
        """Estimate the clean image.

        Args:
            x: noisy image, [B, 1, H, W], model units.
            sigma: standard deviation of its noise, a number or [B], model units, > 0.
            cond: conditioning maps [B, C, H, W].

        Returns:
            Estimate of x0, [B, 1, H, W], model units.
        """
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(x.shape[0])
        s = sigma[:, None, None, None]
        variance = s**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = s * self.sigma_data / variance.sqrt()
        c_in = 1 / variance.sqrt()
        return c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, cond)


class ResidualDenoiser(nn.Module):
    """D(x, sigma, cond, B) = B + EDM denoiser of x - B: diffusion of what a mean B leaves open.

    Args:
        network: called as `network(r, c_noise, [cond, B])` with the scaled residual r.
        sigma_data: root mean square of x0 - B inside the head, model units.
    """

    def __init__(self, network: UNet, sigma_data: float) -> None:
        super().__init__()
        self.denoise = Denoiser(network, sigma_data)

    @property
    def sigma_data(self) -> float:
        """Root mean square of the residual, model units."""
        return self.denoise.sigma_data

    def forward(self, x: Tensor, sigma: Tensor | float, cond: Tensor, mean: Tensor) -> Tensor:
        """Estimate the clean image.

        Args:
            x: noisy image, [B, 1, H, W], model units.
            sigma: standard deviation of its noise, a number or [B], model units, > 0.
            cond: conditioning maps [B, C, H, W].
            mean: B, [B, 1, H, W], model units.

        Returns:
            Estimate of x0, [B, 1, H, W], model units.
        """
        return mean + self.denoise(x - mean, sigma, torch.cat((cond, mean), dim=1))
