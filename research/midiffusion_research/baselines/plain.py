"""The two baselines without a network: identity and histogram matching."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

from ..datasets.subject import Subject
from .method import Budget

_QUANTILES = 1001
_AIR = 0.03


class Identity:
    """The source itself, unchanged: what a method has to beat."""

    name = "identity"

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Nothing to learn."""

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """The source, [S, H, W] in model units."""
        return np.array(slices.data, dtype=np.float32)


class HistogramMatching:
    """Maps the quantiles of the subject's head to those of all training targets' heads.

    Zero-shot: uses training targets alone, no pair. One monotone map per subject, over all slices;
    air stays air. The head is told from air by 3 % of the brightness that one unit stands for.
    """

    name = "histogram"

    def __init__(self) -> None:
        self._quantiles: NDArray[np.float64] | None = None

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Pools the values inside the training targets' heads; raises InvalidData for none."""
        if not train:
            raise InvalidData("Histogram matching needs training subjects.")
        pooled = np.concatenate([subject.target[subject.target > _AIR] for subject in train])
        self._quantiles = np.quantile(pooled, np.linspace(0, 1, _QUANTILES))

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units; see the class."""
        if self._quantiles is None:
            raise RuntimeError("fit() comes before translate()")
        data = np.asarray(slices.data, dtype=np.float64)
        head = data > _AIR
        output = np.zeros(data.shape, dtype=np.float32)
        if head.any():
            output[head] = _match(data[head], self._quantiles)
        return output


def _match(values: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replaces each value by the quantile of its mid-rank, so that ties share one value."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - counts / 2) / values.size
    matched = np.interp(rank, np.linspace(0, 1, quantiles.size), quantiles)
    return matched[inverse.reshape(values.shape)]
