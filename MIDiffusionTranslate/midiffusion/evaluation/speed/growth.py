"""How time and memory grow with the number of slices and with their size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...model import TranslationModel
from ..fresh_process import memory_rise
from .timing import clock, phantom

# Two: one without cross maps, one with them.
STEPS = 2


@dataclass(frozen=True)
class Point:
    """One volume in a fresh process. memory_bytes: rise over that process before, with the model
    loaded and a smaller volume translated; None where it can't be measured."""

    slices: int
    size: int
    seconds: float
    memory_bytes: int | None


def point(model: TranslationModel, device: torch.device, slices: int, size: int) -> Point:
    """Translates a phantom in STEPS evaluations, in this process."""
    card, name = model.card, str(device)
    small = phantom(2, 64, card.pixel_mm, card.orientation)
    model.translate(small, steps=STEPS, device=name)
    volume = phantom(slices, size, card.pixel_mm, card.orientation)
    taken: list[float] = []

    def run() -> None:
        start = clock(device)
        model.translate(volume, steps=STEPS, device=name)
        taken.append(clock(device) - start)

    rise = memory_rise(run, name)
    return Point(slices, size, taken[0], rise)


def read_point(text: str) -> Point:
    """What a process printed for its point."""
    return Point(**json.loads(text))


def exponent(sizes: Sequence[float], values: Sequence[float | None]) -> float | None:
    """p of the power law value ~ size^p, least squares of the logarithms; None where a value is
    missing or is none to take a logarithm of."""
    known = [value for value in values if value is not None and value > 0]
    if len(known) < len(values) or len(known) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(known), 1)[0])
