"""MIDiffusion itself as a row of the table, by the same call that users make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...volume import Volume
from ..datasets.subject import Subject, as_acquired
from .method import Budget

if TYPE_CHECKING:
    from ...model import TranslationModel


@dataclass(frozen=True)
class Sampling:
    """How a bundle is sampled; None leaves the choice to its card. detail: see `translate`."""

    steps: int | None = None
    samples: int = 1
    seed: int = 0
    sampler: str | None = None
    device: str = "auto"
    detail: bool = True


class MIDiffusion:
    """A trained bundle, which learns nothing here: one translated volume per subject."""

    def __init__(self, model: TranslationModel, sampling: Sampling) -> None:
        self.name = "midiffusion" if sampling.detail else "midiffusion-plain"
        self._model = model
        self._sampling = sampling

    @classmethod
    def from_bundle(cls, model: str, folder: Path | None, sampling: Sampling) -> MIDiffusion:
        """Loads a bundle by id or folder; raises as `load_model` does."""
        from ...model import load_model

        return cls(load_model(model, folder), sampling)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """The bundle is trained already."""

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units: what comes out in the card's units is brought back to them."""
        from ...intensity import intensity_map

        how = self._sampling
        translation = self._model.translate(
            as_acquired(slices),
            steps=how.steps,
            seed=how.seed,
            samples=how.samples,
            sampler=how.sampler,
            device=how.device,
            detail=how.detail,
        )
        air, one = intensity_map(self._model.card.intensity).inverse(np.array([0.0, 1.0]))
        return np.asarray((translation.volume.data - air) / (one - air), dtype=np.float32)
