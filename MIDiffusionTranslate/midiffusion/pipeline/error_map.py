"""Step `error_map`: the expected absolute error of a result.

The views' spread tells where the answer depends on the source's contrast. Errors are also larger
where the result is bright and where it varies. The expected error is a sum of the three with
weights that are fitted on real images of the target with self-made sources (`training.error_fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .case import Case
from .detail import smooth

WINDOW_MM = 2.4  # standard deviation of the neighbourhood
TERMS = ("spread", "deviation", "level")


def terms(result: np.ndarray, spread: np.ndarray, sigmas: Sequence[float]) -> list[np.ndarray]:
    """The spread, the local standard deviation and the local mean of a result, [k, j, i] each.

    Args:
        result, spread: [k, j, i], model units.
        sigmas: standard deviation of the neighbourhood along k, j and i, voxels.
    """
    level = smooth(result, sigmas)
    variance = np.maximum(smooth(result * result, sigmas) - level * level, 0)
    return [smooth(spread, sigmas), np.sqrt(variance), level]


@dataclass(frozen=True)
class ErrorMap:
    """window_mm: standard deviation of the neighbourhood in which the terms are averaged."""

    window_mm: float = WINDOW_MM

    name: ClassVar[str] = "error_map"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return case.spread is not None

    def run(self, case: Case) -> dict[str, Any]:
        assert case.result is not None and case.spread is not None
        sigmas = [self.window_mm / step for step in case.source.spacing_mm[::-1]]
        weights = case.model.error
        found = terms(case.result, case.spread, sigmas)
        expected = sum(w * term for w, term in zip(weights, found, strict=True))
        case.spread = np.asarray(np.maximum(expected, 0) * (case.result > 0), np.float32)
        head = case.spread[case.result > 0]
        return {"median": round(float(np.median(head)), 4) if head.size else None}
