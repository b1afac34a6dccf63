"""Power-function average of the weights: EDM2 (arXiv 2312.02696), section 3.1.

Unlike an exponential average with a fixed half-life its width is a share of the training so far, so
one setting suits five minutes and five days.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


def exponent_from_width(width: float) -> float:
    """Exponent gamma whose profile t^gamma has the relative standard deviation `width` (0 .. 0.28).

    Solves width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), their eq. 126, by bisection.
    """
    low, high = 0.0, 1e4
    for _ in range(200):
        gamma = (low + high) / 2
        if (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) > width**2:
            low = gamma
        else:
            high = gamma
    return (low + high) / 2


class PowerAverage:
    """Keeps `average`, a copy of `model` with averaged weights."""

    def __init__(self, model: nn.Module, width: float) -> None:
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.gamma = exponent_from_width(width)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Blend in the weights after optimiser step `step` (1-based)."""
        beta = (1.0 - 1.0 / step) ** (self.gamma + 1.0)
        for ours, theirs in zip(self.average.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1.0 - beta)
