"""Our own method with the cross maps taken on the denoised estimate in place of the noisy state.

The estimate is that of the step before, carried along, so it costs nothing at use; the first step
has none, and its cross maps are blank. Training has no step before: it makes an estimate from the
same image under the same noise at the level of such a step, without gradient and with blank cross
maps, for half of the batches (as in self-conditioning, arXiv 2208.04202, section 3.2).
"""

from __future__ import annotations

import math

import torch
from midiffusion.diffusion.conditioning import Condition, LMICondition, LMISettings
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.loss import denoising_loss
from midiffusion.diffusion.process import perturb
from midiffusion.diffusion.samplers import Denoise
from midiffusion.runtime.precision import computing_in
from torch import Tensor

from midiffusion_research.training.augmentation import RandomContrast
from midiffusion_research.training.batches import levels_and_noise, moved

from .scratch import FromScratch

_SHARE = 0.5
_STEP = 2.5  # mean ratio of the noise levels of ten evaluations from 40 to 0.01


class EstimateCondition:
    """Self maps of a source, and cross maps of it with `estimate` [B, 1, H, W], model units, which
    whoever samples keeps up to date; blank while that is None."""

    def __init__(self, known: LMICondition, estimate: Tensor | None = None) -> None:
        self._known = known
        self.estimate = estimate

    def channels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """[B, C, H, W]; neither the state x nor its level says anything here but by its shape."""
        if self.estimate is None:
            return self._known.channels(x, math.inf)
        return self._known.channels(self.estimate, 0.0)

    def select(self, index: slice) -> EstimateCondition:
        """The condition of some of the slices."""
        estimate = None if self.estimate is None else self.estimate[index]
        return EstimateCondition(self._known.select(index), estimate)


class OnEstimate(FromScratch):
    """See the module."""

    def _loss(self, denoiser: Denoiser, x0: Tensor, random: torch.Generator) -> Tensor:
        config = self._config
        x0 = moved(config, x0, random)
        contrast = RandomContrast(**config.contrast)
        pseudo_source = contrast.apply(x0, contrast.draw(x0, random)).to(self._device)
        keep = (torch.rand(len(x0), generator=random) >= config.dropout).float().to(self._device)
        sigma, noise = levels_and_noise(config, x0, random)
        x0, sigma, noise = (part.to(self._device) for part in (x0, sigma, noise))
        known = LMICondition(pseudo_source, LMISettings(**config.lmi), keep)
        condition = EstimateCondition(known)
        with computing_in(getattr(torch, config.precision), self._device):
            if float(torch.rand(1, generator=random)) < _SHARE:
                before = (_STEP * sigma).clamp(max=config.sigma_max)
                with torch.no_grad():
                    x = perturb(x0, before, noise)
                    condition.estimate = denoiser(x, before, condition.channels(x, before))
            return denoising_loss(denoiser, x0, condition, sigma, noise).mean()

    def _condition(self, source: Tensor) -> Condition:
        return EstimateCondition(LMICondition(source, LMISettings(**self._config.lmi)))

    def _denoise(self, denoiser: Denoiser, condition: Condition, source: Tensor) -> Denoise:
        assert isinstance(condition, EstimateCondition)  # our own, see above
        condition.estimate = None
        denoise = super()._denoise(denoiser, condition, source)

        def carried(x: Tensor, sigma: float) -> Tensor:
            condition.estimate = denoise(x, sigma)
            return condition.estimate

        return carried
