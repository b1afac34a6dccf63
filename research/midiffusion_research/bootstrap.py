"""Confidence intervals by subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Mean of one value per subject, with its percentile bootstrap interval.

    Subjects whose value is NaN (they have no such figure) are left out; all NaN gives NaN.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[~np.isnan(finite)]
    if not finite.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    means = finite[_draws(finite.size, seed)].mean(axis=1)
    return _interval(float(finite.mean()), means)


def statistic_interval(
    statistic: Callable[[NDArray[np.intp]], float], subjects: int, *, seed: int = 0
) -> Interval:
    """Percentile bootstrap (Efron 1979) of any statistic of a set of subjects.

    `statistic` is given row numbers into the subjects: all of them, then `RESAMPLES` draws with
    replacement. The draws depend on `seed` and the number of subjects alone, so statistics of the
    same subjects are compared on the same draws; those where it is not finite do not count.
    """
    values = np.array([statistic(rows) for rows in _draws(subjects, seed)])
    return _interval(statistic(np.arange(subjects)), values)


def _draws(subjects: int, seed: int) -> NDArray[np.intp]:
    random = np.random.default_rng(seed)
    return random.integers(0, subjects, size=(RESAMPLES, subjects), dtype=np.intp)


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    finite = resampled[np.isfinite(resampled)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (np.nan, np.nan)
    return Interval(value, float(low), float(high))
