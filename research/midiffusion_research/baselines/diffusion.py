"""MIDiffusion itself as a row of the table, by the same call that users make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from midiffusion.images.volume import Volume
from midiffusion.pipeline.options import TranslationOptions
from numpy.typing import NDArray

from ..datasets.subject import Subject, as_acquired
from .method import Budget

if TYPE_CHECKING:
    from midiffusion.pipeline.target import TargetModel
    from midiffusion.pipeline.translate import Translation


class MIDiffusion:
    """A trained model, which learns nothing here: one translated volume per subject."""

    def __init__(self, model: TargetModel, options: TranslationOptions) -> None:
        self.name = "midiffusion-plain" if "detail" in options.without else "midiffusion"
        self._model = model
        self._options = options

    @classmethod
    def from_bundle(
        cls, model: str, folder: Path | None, options: TranslationOptions
    ) -> MIDiffusion:
        """Loads a bundle by id or folder; raises as `load_model` does."""
        from midiffusion.pipeline.target import load_model

        return cls(load_model(model, folder), options)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """The bundle is trained already."""

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units."""
        return self.with_maps(slices)[0]

    def with_maps(self, slices: Volume) -> tuple[NDArray[np.float32], Translation]:
        """The result in model units, and all that the call returned, in the card's units."""
        made = self._model.translate(as_acquired(slices), self._options)
        air, span = model_unit(self._model)
        return np.asarray((made.volume.data - air) / span, dtype=np.float32), made


def model_unit(model: TargetModel) -> tuple[float, float]:
    """Value of air and span of one model unit in the units of the model's results."""
    air, one = model.intensity.inverse(np.array([0.0, 1.0]))
    return float(air), float(one - air)
