"""From a state at some noise level to an image: what the diffusion baselines share."""

from __future__ import annotations

from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.samplers import Denoise, Noise, Sampler
from midiffusion.runtime.batching import SliceBatches
from midiffusion.runtime.precision import computing_in, network_dtype, reproducible
from torch import Tensor

from midiffusion_research.training.conditions import Condition


def conditioned(denoiser: Denoiser, condition: Condition, like: Tensor) -> Denoise:
    """The denoiser as samplers take it, told of a condition, for states like [S, 1, H, W].

    The network works through the slices in batches, in the number format of our own path. Calling
    it raises OutOfMemory if not even one slice fits.
    """
    batches, dtype = SliceBatches(like.device), network_dtype(like.device)

    def denoise(state: Tensor, sigma: float) -> Tensor:
        def one_batch(part: slice) -> Tensor:
            channels = condition.select(part).channels(state[part], sigma)
            with computing_in(dtype, like.device):
                return denoiser(state[part], sigma, channels)

        return batches.map(len(state), one_batch)

    return denoise


def integrate(
    denoise: Denoise, x: Tensor, sigmas: Tensor, sampler: Sampler, noise: Noise
) -> Tensor:
    """The sampler's result, [S, 1, H, W] in model units.

    x: state of all slices at the level sigmas[0], [S, 1, H, W], on the denoiser's device. sigmas:
    [steps + 1], see `samplers`.
    """
    with reproducible():
        return sampler.sample(denoise, x, sigmas, noise=noise)
