"""From a state at some noise level to an image: what the diffusion baselines share."""

from __future__ import annotations

from torch import Tensor

from ...batching import SliceBatches
from ...conditioning import Condition
from ...denoiser import Denoiser
from ...precision import computing_in, network_dtype
from ...samplers import Noise, Sampler
from ...sampling import reproducible


def integrate(
    denoiser: Denoiser,
    condition: Condition,
    x: Tensor,
    sigmas: Tensor,
    sampler: Sampler,
    noise: Noise,
) -> Tensor:
    """The sampler's result, [S, 1, H, W] in model units.

    x: state of all slices at the level sigmas[0], [S, 1, H, W], on the denoiser's device. sigmas:
    [steps + 1], see `samplers`. The network works through the slices in batches, in the number
    format of our own path. Raises OutOfMemory if not even one slice fits.
    """
    batches, dtype = SliceBatches(len(x), x.device), network_dtype(x.device)

    def denoise(state: Tensor, sigma: float) -> Tensor:
        def one_batch(part: slice) -> Tensor:
            channels = condition.select(part).channels(state[part], sigma)
            with computing_in(dtype, x.device):
                return denoiser(state[part], sigma, channels)

        return batches.map(one_batch)

    with reproducible():
        return sampler.sample(denoise, x, sigmas, noise=noise)
