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

from ..diffusion.backbone import CONTRASTS, OUTPUTS
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
        count = 0
        for view in case.views:
            stack = case.stacks[view.stack]
            drawn = self._drawn(case, stack, view) * heads[view.stack]
            for image in drawn.numpy().swapaxes(0, 1):
                count += 1
                self._add(case, stack.grid.to_volume(image), count)
        if case.spread is not None:
            case.spread /= count - 1
            np.sqrt(case.spread, out=case.spread)
        return {"views": count}

    @staticmethod
    def _add(case: Case, volume: np.ndarray, count: int) -> None:
        """Take view number `count` into the mean and the sum of squared deviations."""
        np.maximum(volume, 0, out=volume)
        if case.result is None:
            case.result = volume
            return
        if case.spread is None:
            case.spread = np.zeros_like(volume)
        # Plane by plane: further volumes would be the most that a run takes.
        for plane, mean, square in zip(volume, case.result, case.spread, strict=True):
            difference = plane - mean
            mean += difference / count  # Welford's recurrence: nothing cancels
            square += difference * (plane - mean)

    def _head(self, stack: Stack) -> Tensor:
        """1 in the source's head, [S, 1, H, W], on the CPU."""
        slices = stack.slices.cpu()
        # Noise may be above the level of air; its means are not.
        smooth = F.avg_pool2d(slices, 3, 1, 1, count_include_pad=False)
        return torch.cat([head_of(part, self.air) for part in smooth.split(8)])

    @staticmethod
    def _drawn(case: Case, stack: Stack, view: View) -> Tensor:
        """The target image from one view, [S, 1, H, W], or also from its mirror image, mirrored
        back, [S, 2, H, W]; model units, on the CPU."""
        backbone = case.model.backbone.to(case.device)
        dtype = network_dtype(case.device)
        target = CONTRASTS.index(case.model.card.contrast)
        slices = stack.slices

        def outputs(part: slice) -> Tensor:
            condition = LMICondition(slices[part] ** view.exponent, case.model.lmi).fixed
            with computing_in(dtype, case.device):
                made = [backbone(condition).float()]
                if view.mirrored:  # the maps of the mirror image are the mirrored maps
                    made.append(backbone(condition.flip(3)).float().flip(3))
            return torch.cat(made, dim=1)

        def images(outputs: Tensor) -> Tensor:
            made = []
            for one in outputs.split(len(OUTPUTS), dim=1):
                image = one[:, target : target + 1]
                made.append(image if case.look is None else apply_look(case.look, one, target))
            return torch.cat(made, dim=1).clamp_(0, 1.5)

        if case.reporter.step == 0:
            case.batches.fit(outputs)
        case.reporter.begin()
        count, done = len(slices), case.reporter.batch_done
        if case.drawn is None:
            drawn = case.batches.map(count, lambda part: images(outputs(part)), done)
        else:
            key = (case.model.backbone_sha256, view)
            if key not in case.drawn:
                case.drawn[key] = case.batches.map(count, outputs, done).cpu()
            shared = case.drawn[key]
            drawn = case.batches.map(count, lambda part: images(shared[part].to(case.device)), done)
        case.reporter.evaluation_done(drawn)
        return drawn.cpu()
