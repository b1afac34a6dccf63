"""How time and memory grow with the number of slices and with their size."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from midiffusion.pipeline.target import TargetModel

from ..fresh_process import memory_rise
from .timing import clock, phantom

VIEWS = 2  # one evaluation of the network each


@dataclass(frozen=True)
class Point:
    """One volume in a fresh process. seconds: as `timing.clock` counts them, processor time where
    one thread of a CPU does everything; wall_s: by the clock on the wall in any case.
    memory_bytes: rise over that process before, with the model loaded and a smaller volume
    translated; None where it can't be measured."""

    slices: int
    size: int
    seconds: float
    wall_s: float
    memory_bytes: int | None


def point(model: TargetModel, device: torch.device, slices: int, size: int) -> Point:
    """Translates a phantom in VIEWS views, in this process."""
    card, name = model.card, str(device)
    small = phantom(2, 64, card.pixel_mm)
    model.translate(small, views=VIEWS, device=name)
    volume = phantom(slices, size, card.pixel_mm)
    taken: list[tuple[float, float]] = []

    def run() -> None:
        start, wall = clock(device), time.perf_counter()
        model.translate(volume, views=VIEWS, device=name)
        taken.append((clock(device) - start, time.perf_counter() - wall))

    rise = memory_rise(run, name)
    return Point(slices, size, *taken[0], rise)


def read_point(text: str) -> Point:
    """What a process printed for its point."""
    return Point(**json.loads(text))


def per_slice(slices: Sequence[int], memory: Sequence[int | None]) -> float | None:
    """Bytes that each further slice takes, least squares; None where a value is missing."""
    known = [value for value in memory if value is not None]
    if len(known) < len(memory) or len(known) < 2:
        return None
    return float(np.polyfit(slices, known, 1)[0])


def exponent(sizes: Sequence[float], values: Sequence[float | None]) -> float | None:
    """p of the power law value ~ size^p, least squares of the logarithms; None where a value is
    missing or is none to take a logarithm of."""
    known = [value for value in values if value is not None and value > 0]
    if len(known) < len(values) or len(known) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(known), 1)[0])
