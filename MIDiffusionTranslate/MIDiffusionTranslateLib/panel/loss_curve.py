"""The loss of a training run as a small picture. Plain arrays: no Qt."""

from __future__ import annotations

import numpy as np

from .training_folder import Curve

_LINE, _MARK, _GRID = 1.0, 0.75, 0.25  # brightness


def curveImage(curve: Curve, budget_s: float, width: int = 300, height: int = 90) -> np.ndarray:
    """Float [height, width] in 0..1: the loss as a line, that of the held-back images as marks.

    Time runs to the right, to `budget_s`; the loss upwards from 0 to its largest value. Grid lines
    divide the height in four.
    """
    image = np.zeros((height, width), np.float32)
    image[np.linspace(0, height - 1, 5).astype(int)] = _GRID
    if not curve.loss:
        return image
    top = max(*curve.loss, *curve.heldBackLoss, 1e-6) if curve.heldBackLoss else max(curve.loss)
    top, end = max(top, 1e-6), max(budget_s, curve.spent_s, 1e-6)

    def row(loss: float) -> int:
        return int(round((height - 1) * (1.0 - min(max(loss / top, 0.0), 1.0))))

    def column(seconds: float) -> int:
        return int(round((width - 1) * min(max(seconds / end, 0.0), 1.0)))

    columns = np.arange(column(curve.seconds[0]), column(curve.seconds[-1]) + 1)
    places = [column(seconds) for seconds in curve.seconds]
    before = None
    for at, loss in zip(columns, np.interp(columns, places, curve.loss), strict=True):
        here = row(float(loss))
        low, high = sorted((here, here if before is None else before))
        image[low : high + 2, at] = _LINE
        before = here
    for seconds, held in zip(curve.heldBackSeconds, curve.heldBackLoss, strict=True):
        y, x = row(held), column(seconds)
        image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = _MARK
    return image
