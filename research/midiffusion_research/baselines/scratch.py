"""Our own method trained from the start within a budget: what one setting of it is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.noise_fields import SharedNoise
from midiffusion.diffusion.process import karras_sigmas, perturb
from midiffusion.diffusion.samplers import SAMPLERS
from midiffusion.images.volume import Volume
from midiffusion.training.ema import PowerAverage
from numpy.typing import NDArray
from torch import Tensor

from midiffusion_research.training.batches import build_denoiser, levels_and_noise
from midiffusion_research.training.conditions import Condition, conditioned_loss
from midiffusion_research.training.configuration import TrainingConfig

from ..datasets.subject import Subject
from .integration import conditioned, integrate
from .learning import learn, minimise, moved, some
from .method import Budget
from .slices import on_grid_of, pixel_mm, source_slices, target_slices

_LONGEST_GRADIENT = 1.0  # some noise levels weigh heavily


class FromScratch:
    """See the module; `fit` before `translate`.

    name: of the row. config: LMI, contrast, noise levels and network. size: side in pixels of the
    slices. evaluations, samples, sampler: as in `TranslationOptions`. device: of torch.

    The result is the network's own: no step of the pipeline follows.
    """

    def __init__(
        self,
        name: str,
        config: TrainingConfig,
        *,
        size: int = 128,
        evaluations: int = 10,
        samples: int = 1,
        sampler: str = "dpmpp_2m",
        device: str = "cpu",
    ) -> None:
        self.name = name
        self.steps = 0
        self._config = config
        self._size = size
        self._evaluations, self._samples = evaluations, samples
        self._sampler = SAMPLERS[sampler]
        self._device = torch.device(device)
        self._average: PowerAverage | None = None

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Trains the denoiser on the targets alone. Raises InvalidData for no subjects."""
        images = target_slices(self.name, train, self._size)
        denoiser = build_denoiser(self._config, float(images.square().mean().sqrt()))
        denoiser = denoiser.to(self._device)
        average = self._average = PowerAverage(denoiser, self._config.ema)
        optimiser = torch.optim.Adam(
            denoiser.parameters(), lr=self._config.learning_rate, betas=(0.9, 0.99)
        )
        random = torch.Generator().manual_seed(self._config.seed)
        taken = 0

        def step() -> None:
            nonlocal taken
            x0 = some(images, self._config.batch, random)
            minimise(optimiser, self._loss(denoiser, x0, random), _LONGEST_GRADIENT)
            taken += 1
            average.update(denoiser, taken)

        self.steps = learn(self.name, step, [optimiser], budget)

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units, the mean of the samples. RuntimeError before `fit`."""
        return self._sampled(slices, source_slices(slices, self._size), self._config.seed)

    def _sampled(self, slices: Volume, source: Tensor, seed: int) -> NDArray[np.float32]:
        denoiser = self._trained()
        source = source.to(self._device)
        condition = self._condition(source)
        low, high = self._config.sigma_min, self._config.sigma_max
        sigmas = karras_sigmas(self._sampler.steps(self._evaluations), low, high)
        gap = float(slices.spacing_mm[2]) / pixel_mm(slices, self._size)
        mean = torch.zeros_like(source)
        for sample in range(self._samples):
            noise = SharedNoise(seed, sample, source, gap)
            x = perturb(torch.zeros_like(source), high, noise(0))
            denoise = conditioned(denoiser, condition, source)
            image = integrate(denoise, x, sigmas, self._sampler, noise)
            mean += image.clamp(min=0) / self._samples
        return on_grid_of(slices, mean)

    def _trained(self) -> Denoiser:
        if self._average is None:
            raise RuntimeError("fit() comes before translate()")
        average = self._average.average
        assert isinstance(average, Denoiser)  # what `fit` gave it
        return average

    def _loss(self, denoiser: Denoiser, x0: Tensor, random: torch.Generator) -> Tensor:
        """Eq. 12 for a batch of images, each in the role of its own source."""
        (x0,) = moved(random, x0)
        sigma, noise = levels_and_noise(self._config, x0, random)
        x0, sigma, noise = (part.to(self._device) for part in (x0, sigma, noise))
        return conditioned_loss(denoiser, x0, self._condition(x0), sigma, noise).mean()

    def _condition(self, source: Tensor) -> Condition:
        raise NotImplementedError
