"""SDEdit (Meng et al., arXiv 2108.01073): noise the source, then denoise it by the target's prior.

The prior is a denoiser without any condition, trained on the targets within the budget. The source
is put on the scale of the pipeline, noised to one level, and the sampler runs from there. The level
trades faithfulness to the source (low) for likeness to the target (high).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from midiffusion.diffusion.conditioning import LMISettings
from midiffusion.diffusion.noise_fields import SharedNoise
from midiffusion.diffusion.process import karras_sigmas, perturb
from midiffusion.images.volume import Volume
from numpy.typing import NDArray
from torch import Tensor

from midiffusion_research.training.conditions import NoCondition
from midiffusion_research.training.configuration import TrainingConfig

from ..datasets.subject import Subject
from ..metrics import ssim_map
from .integration import conditioned, integrate
from .learning import network_of_the_bundles
from .method import Budget
from .scratch import FromScratch
from .slices import on_grid_of, pixel_mm, source_slices

# Model units. Meng et al. have 0.3 to 0.6 of the time of a variance-exploding process as the useful
# range; in ours, whose levels run from 0.01 to 40, that is 0.1 to 1.5.
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
DEFAULT_LEVEL = 0.4
_SUBJECTS = 6


class SDEdit(FromScratch):
    """See the module.

    size: side in pixels of the slices that the network works on. network: arguments of `UNetConfig`
    but the conditioning. device: of torch. seed: of weights, order, augmentation and noise.
    """

    def __init__(
        self,
        *,
        size: int = 128,
        network: dict[str, object] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        config = TrainingConfig(
            network=network_of_the_bundles() if network is None else network,
            seed=seed,
        )
        super().__init__("sdedit", config, size=size, device=device)
        self._start_at(DEFAULT_LEVEL)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Trains the prior on the targets, then chooses the noise level among `LEVELS`: the highest
        mean SSIM inside the head on the middle slices of six training subjects, evenly spaced in
        their list. Raises InvalidData for no subjects."""
        super().fit(train, budget)
        rows = np.unique(np.linspace(0, len(train) - 1, _SUBJECTS).round().astype(int))
        examples = [train[row].some(1) for row in rows]
        scores = [np.mean([self._score(one, level) for one in examples]) for level in LEVELS]
        self._start_at(LEVELS[int(np.argmax(scores))])

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units. RuntimeError before `fit`."""
        return self._edited(slices, self.level)

    def _start_at(self, level: float) -> None:
        self.level = level
        self.name = f"sdedit, noise level {level:g}"

    def _edited(self, slices: Volume, level: float) -> NDArray[np.float32]:
        source = source_slices(slices, self._size).to(self._device)
        # Spent between this level and the last, not over the whole range of the prior.
        sigmas = karras_sigmas(
            self._sampler.steps(self._evaluations), self._config.sigma_min, level
        )
        gap = float(slices.spacing_mm[2]) / pixel_mm(slices, self._size)
        noise = SharedNoise(self._config.seed, 0, source, gap)
        start = perturb(source, level, noise(0))
        prior = conditioned(self._trained(), self._condition(source), start)
        image: Tensor = integrate(prior, start, sigmas, self._sampler, noise)
        return on_grid_of(slices, image.clamp(min=0))

    def _condition(self, source: Tensor) -> NoCondition:
        return NoCondition(LMISettings(**self._config.lmi).channels)

    def _score(self, subject: Subject, level: float) -> float:
        edited = self._edited(subject.source, level)
        similarity = ssim_map(edited.clip(0, 1), subject.target.clip(0, 1))
        head = subject.head
        return float(similarity[head].mean()) if head.any() else float(similarity.mean())
