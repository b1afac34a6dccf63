"""Step `sample`: diffusion of what the mean leaves open.

The reverse process (eq. 13 of arXiv 2301.13743 in our reading) runs on the image x with the
denoiser D = B + D_r(x - B), where D_r denoises the residual (`diffusion.denoiser`). Above the
start level D is B to within the network's precision, so the state there is B plus noise and
nothing need be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..diffusion.conditioning import LMICondition
from ..diffusion.noise_fields import SharedNoise
from ..diffusion.process import geometric_sigmas
from ..diffusion.samplers import SAMPLERS
from ..errors import InvalidParameter
from ..runtime.precision import computing_in, network_dtype
from .case import Case


@dataclass(frozen=True)
class Sample:
    """start_sigma, end_sigma: noise levels between which the denoiser is evaluated, model units."""

    start_sigma: float = 0.5
    end_sigma: float = 0.02

    name: ClassVar[str] = "sample"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return case.options.steps > 1

    def run(self, case: Case) -> dict[str, Any]:
        assert case.stacks is not None and case.result is not None
        if case.model.denoiser is None:
            raise InvalidParameter(
                f"The model '{case.model.card.id}' draws no samples: set steps to 1."
            )
        if case.options.sampler not in SAMPLERS:
            raise InvalidParameter(
                f"Unknown sampler {case.options.sampler!r}: use one of {', '.join(SAMPLERS)}."
            )
        stack = case.stacks[0]
        mean = torch.from_numpy(stack.grid.to_slices(case.result)).clamp_(min=0)[:, None]
        result, squares = None, None
        for number in range(case.options.samples):
            drawn = self._one(case, mean.to(case.device), number)
            volume = stack.grid.to_volume(drawn[:, 0].cpu().numpy())
            np.maximum(volume, 0, out=volume)
            volume *= case.result > 0  # air stays air
            if result is None:
                result = volume
                squares = np.zeros_like(volume) if case.options.samples > 1 else None
                continue
            assert squares is not None
            difference = volume - result
            result += difference / (number + 1)
            squares += difference * (volume - result)
        case.result = result
        if squares is not None:
            case.deviation = np.sqrt(squares / (case.options.samples - 1))
        return {"evaluations": case.options.steps}

    def _one(self, case: Case, mean: Tensor, number: int) -> Tensor:
        """One sample of all slices, [S, 1, H, W]."""
        assert case.stacks is not None and case.model.denoiser is not None
        stack, lmi = case.stacks[0], case.model.lmi
        denoiser = case.model.denoiser.to(case.device)
        sampler = SAMPLERS[case.options.sampler]
        sigmas = geometric_sigmas(
            sampler.steps(case.options.steps), self.end_sigma, self.start_sigma
        )
        noise = SharedNoise(case.options.seed, number, stack.slices, stack.gap)
        dtype = network_dtype(case.device)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            level = x.new_full((1,), sigma)  # made there: a copied number would make us wait

            def one_batch(part: slice) -> Tensor:
                condition = LMICondition(stack.slices[part], lmi).channels(x[part], sigma)
                with computing_in(dtype, case.device):
                    return denoiser(x[part], level, condition, mean[part])

            case.reporter.begin()
            made = case.batches.map(len(x), one_batch, case.reporter.batch_done)
            case.reporter.evaluation_done(made)
            return made

        start = mean + self.start_sigma * noise(0)
        return sampler.sample(denoise, start, sigmas, noise=noise)
