"""SDEdit (Meng et al., arXiv 2108.01073): noise the source, then denoise it by the target's prior.

The prior is that of a bundle, its unconditional branch: the same weights as our own row, with every
LMI map blank, so that the row says what the maps are worth. The source is put on the scale and,
between MR and CT, in the contrast that it has in our own path (see `contrast`; it gains by that in
both directions), noised to one level, and the sampler runs from there. The level trades
faithfulness to the source (low) for likeness to the target (high).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...conditioning import LMISettings, NoCondition
from ...device import choose_device
from ...grid import SliceGrid
from ...network import UNetConfig
from ...noise import karras_sigmas, perturb
from ...samplers import SAMPLERS
from ...sampling import SharedNoise
from ...source import Source
from ...volume import Volume
from ..datasets.subject import Subject, as_acquired
from ..metrics import ssim_map
from .diffusion import Sampling
from .integration import conditioned, integrate
from .method import Budget

if TYPE_CHECKING:
    from ...model import TranslationModel

# Model units. Meng et al. have 0.3 to 0.6 of the time of a variance-exploding process as the useful
# range; in ours, whose levels run from 0.01 to 40, that is 0.1 to 1.5.
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
DEFAULT_LEVEL = 0.4
_EVALUATIONS = 10  # each sample, unless told otherwise
_SUBJECTS = 6


class SDEdit:
    """See the module. `level` is the noise level, standard deviation in model units."""

    def __init__(self, model: TranslationModel, sampling: Sampling) -> None:
        self._start_at(DEFAULT_LEVEL)
        self._model = model
        self._sampling = sampling
        self._device = choose_device(sampling.device)
        self._blank = NoCondition(LMISettings(**model.card.lmi).channels)
        self._multiple = UNetConfig(**model.card.network).multiple

    @classmethod
    def from_bundle(cls, model: str, folder: Path | None, sampling: Sampling) -> SDEdit:
        """Loads a bundle by id or folder; raises as `load_model` does."""
        from ...model import load_model

        return cls(load_model(model, folder), sampling)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Chooses the noise level among `LEVELS`: the highest mean SSIM (inside the head) on the
        middle slices of six training subjects, evenly spaced in their list.

        Those pairs are never scored, and of the prior's training they are independent: it never saw
        a source. The weights are not touched, and the budget, meant for learning, is not spent.
        Without subjects the level stays at `DEFAULT_LEVEL`.
        """
        if not train:
            return
        rows = np.unique(np.linspace(0, len(train) - 1, _SUBJECTS).round().astype(int))
        examples = [self._example(train[row]) for row in rows]
        scores = [np.mean([self._score(*one, level) for one in examples]) for level in LEVELS]
        self._start_at(LEVELS[int(np.argmax(scores))])

    def _start_at(self, level: float) -> None:
        self.level = level
        self.name = f"sdedit, noise level {level:g}"

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units, the mean of the samples."""
        grid = self._grid(slices)
        gap = float(slices.spacing_mm[::-1][grid.order[0]]) / self._model.card.pixel_mm
        mean = self._edit(self._source(slices, grid), self.level, gap)
        return np.maximum(grid.to_volume(mean[:, 0].cpu().numpy()), 0)

    def _edit(self, source: Tensor, level: float, gap: float = 0.0) -> Tensor:
        """Source [S, 1, H, W] on the model grid, its slices `gap` pixels apart -> mean of the
        samples, alike."""
        card, how = self._model.card, self._sampling
        sampler = SAMPLERS[card.default_sampler if how.sampler is None else how.sampler]
        # Spent between this level and the last, not over the whole range of the prior.
        evaluations = _EVALUATIONS if how.steps is None else how.steps
        sigmas = karras_sigmas(sampler.steps(evaluations), card.sigma_min, level)
        denoiser = self._model.denoiser.to(source.device)
        total = torch.zeros_like(source)
        for sample in range(how.samples):
            noise = SharedNoise(how.seed, sample, source, gap)
            start = perturb(source, level, noise(0))
            prior = conditioned(denoiser, self._blank, start)
            edited = integrate(prior, start, sigmas, sampler, noise)
            total += edited.clamp(min=0)  # each sample, as in our own path
        return total / how.samples

    def _grid(self, slices: Volume) -> SliceGrid:
        card = self._model.card
        return SliceGrid.of(slices, card.pixel_mm, card.orientation, self._multiple)

    def _source(self, slices: Volume, grid: SliceGrid) -> Tensor:
        source = Source.of(as_acquired(slices))
        taken = source.slices(grid, self._model.card.pixel_mm, self._device)
        return self._model.shown(taken, source.is_ct)

    def _example(self, subject: Subject) -> tuple[Tensor, NDArray[np.float32], NDArray[np.bool_]]:
        """Source [1, 1, H, W], target and head [1, H, W] of the middle slice, on the model grid."""
        grid = self._grid(subject.source)
        middle = slice(grid.shape[0] // 2, grid.shape[0] // 2 + 1)
        source = self._source(subject.source, grid)[middle]
        target = grid.to_slices(subject.target)[middle]
        head = grid.to_slices(subject.head.astype(np.float32))[middle] > 0.5
        return source, target, head

    def _score(
        self,
        source: Tensor,
        target: NDArray[np.float32],
        head: NDArray[np.bool_],
        level: float,
    ) -> float:
        edited = self._edit(source, level)[:, 0].cpu().numpy()
        similarity = ssim_map(edited.clip(0, 1), target.clip(0, 1))
        return float(similarity[head].mean()) if head.any() else float(similarity.mean())
