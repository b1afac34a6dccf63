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
    return statistic_interval(lambda rows: float(finite[rows].mean()), finite.size, seed=seed)


def statistic_interval(
    statistic: Callable[[NDArray[np.intp]], float], subjects: int, *, seed: int = 0
) -> Interval:
    """Percentile bootstrap (Efron 1979) of any statistic of a set of subjects.

    `statistic` is given row numbers into the subjects: all of them, then `RESAMPLES` draws with
    replacement. The draws depend on `seed` and the number of subjects alone, so statistics of the
    same subjects are compared on the same draws; those where it is not finite do not count.
    """
    draws = np.random.default_rng(seed).integers(0, subjects, size=(RESAMPLES, subjects))
    values = np.array([statistic(rows) for rows in draws])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, [2.5, 97.5]) if values.size else (np.nan, np.nan)
    return Interval(statistic(np.arange(subjects)), float(low), float(high))
