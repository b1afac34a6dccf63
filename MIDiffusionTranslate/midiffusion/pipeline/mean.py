"""Step `mean`: what the backbone draws from each view, averaged; the spread is the error map.

B is the denoiser at the highest noise level, where the state says nothing of the image. It is
evaluated once for each view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.backbone import CONTRASTS
from ..diffusion.conditioning import LMICondition
from ..images.anatomy import head_of
from ..runtime.precision import computing_in, network_dtype
from .case import Case, Stack, View
from .look import apply_look


@dataclass(frozen=True)
class Mean:
    """The mean over the views, with air where the source shows air.

    air: what is darker is air, model units; the mean of 3 x 3 pixels of noisy air reaches 0.04.
    """

    air: float = 0.045

    name: ClassVar[str] = "mean"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return True

    def run(self, case: Case) -> dict[str, Any]:
        assert case.stacks is not None
        evaluations = case.options.steps if case.options.steps > 1 else 0
        counts = [len(case.stacks[view.stack].slices) for view in case.views]
        case.reporter.plan(counts + [counts[0]] * (evaluations * case.options.samples))
        heads = [self._head(stack) for stack in case.stacks]
        squares = None
        for count, view in enumerate(case.views, start=1):
            stack = case.stacks[view.stack]
            drawn = self._drawn(case, stack, view) * heads[view.stack]
            volume = stack.grid.to_volume(drawn[:, 0].numpy())
            np.maximum(volume, 0, out=volume)
            if case.result is None:
                case.result = volume
                squares = np.zeros_like(volume) if len(case.views) > 1 else None
                continue
            assert squares is not None
            # Plane by plane: further volumes would be the most that a run takes.
            for plane, mean, square in zip(volume, case.result, squares, strict=True):
                difference = plane - mean
                mean += difference / count  # Welford's recurrence: nothing cancels
                square += difference * (plane - mean)
        if squares is not None:
            squares /= len(case.views) - 1
            case.spread = np.sqrt(squares, out=squares)
        return {"views": len(case.views)}

    def _head(self, stack: Stack) -> Tensor:
        """1 in the source's head, [S, 1, H, W], on the CPU."""
        slices = stack.slices.cpu()
        # Noise may be above the level of air; its means are not.
        smooth = F.avg_pool2d(slices, 3, 1, 1, count_include_pad=False)
        return torch.cat([head_of(part, self.air) for part in smooth.split(8)])

    @staticmethod
    def _drawn(case: Case, stack: Stack, view: View) -> Tensor:
        """The target image from one view, [S, 1, H, W], model units, on the CPU."""
        backbone = case.model.backbone.to(case.device)
        dtype = network_dtype(case.device)
        target = CONTRASTS.index(case.model.card.contrast)
        slices = stack.slices

        def one_batch(part: slice) -> Tensor:
            source = slices[part] ** view.exponent
            source = source.flip(3) if view.mirrored else source
            condition = LMICondition(source, case.model.lmi).fixed
            with computing_in(dtype, case.device):
                outputs = backbone(condition)
            outputs = outputs.float()
            image = outputs[:, target : target + 1]
            if case.look is not None:
                image = apply_look(case.look, outputs, target)
            image = image.flip(3) if view.mirrored else image
            return image.clamp_(0, 1.5)

        if case.reporter.step == 0:
            case.batches.fit(one_batch)
        case.reporter.begin()
        image = case.batches.map(len(slices), one_batch, case.reporter.batch_done)
        case.reporter.evaluation_done(image)
        return image.cpu()
