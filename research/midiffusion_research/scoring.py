"""All figures of one cell: those of every subject at every size, and the Frechet distance."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .cells import Cell, Outputs, digest
from .codeversion import code_version
from .datasets.subject import Subject, area_average
from .scorer import score_subject, scored_slices

if TYPE_CHECKING:
    from .frechet import FeatureNetwork


class Scoring:
    """Figures of outputs for these subjects.

    modality: of the target, in capitals. sizes: in pixels; None in their place is the native grid.
    network: of the Frechet distance, which is taken over all slices that are scored, at the first
    size; None leaves it out.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        modality: str,
        sizes: Sequence[int | None],
        network: FeatureNetwork | None,
    ) -> None:
        self._subjects, self._modality = subjects, modality
        self._sizes, self._network = tuple(sizes) or (None,), network

    @functools.cached_property
    def version(self) -> str:
        """What figures of the same outputs depend on."""
        used = None if self._network is None else self._network.sha256
        return digest([code_version(__name__), used, self._sizes])

    def score(self, cell: Cell, outputs: Outputs) -> None:
        """Puts the figures of these outputs into the cell; raises as `score_subject` does."""
        cell.figures = {
            "native" if size is None else str(size): {
                s.id: score_subject(outputs[s.id], s, size, self._modality) for s in self._subjects
            }
            for size in self._sizes
        }
        cell.frechet = float("nan")
        if self._network is not None and len(self._target_features) > 1:
            from .frechet import frechet_distance

            cell.frechet = frechet_distance(self._features(outputs), self._target_features)

    @functools.cached_property
    def _target_features(self) -> NDArray[np.float32]:
        return self._features({subject.id: subject.target for subject in self._subjects})

    def _features(self, stacks: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        assert self._network is not None
        size, rows = self._sizes[0], []
        for subject in self._subjects:
            images, seen = np.clip(stacks[subject.id], 0.0, 1.0), subject
            if size is not None:
                images, seen = area_average(images, size), subject.at(size)
            # Every subject that has been scored has such slices.
            rows.append(self._network.features(images[scored_slices(seen)]))
        return np.concatenate(rows)
