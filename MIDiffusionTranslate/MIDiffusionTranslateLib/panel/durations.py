"""How long a translation takes: measured in each run on this computer, estimated for the next.

    seconds = start + slices * (once + evaluations * evaluation)

`start` is what every run takes, whatever its volume: the worker, torch, the weights, the way there
and back. The others are of a slice of 128 x 128 pixels: what is done to it once (its maps, the
agreement, both ways between the grids), and one evaluation of the network. They belong to a device
and a network, so that models of the same network share them. (The way back is taken by every
sample; it takes a third of an evaluation, and counts as if it were taken once.)
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from midiffusion.models.card import ModelCard

_PRIOR_START_S = 2.0  # for a device on which nothing has run yet
_PIXELS = 128 * 128
_CARD_EVALUATIONS = 4
_LEAST_PIXELS = 64  # a side of the model's grid
# `once`, in evaluations, on a computer on which nothing has run yet (docs/performance.md).
_PRIOR_ONCE = 5.0
_PARTS = ("Once", "Evaluation")  # of a slice, in the memory


@dataclass(frozen=True)
class Work:
    """What a run has to do: slices of `pixels` on the model's grid, and how often each is
    evaluated (views, and steps times samples)."""

    slices: int
    pixels: float
    evaluations: int

    @staticmethod
    def of(axes: np.ndarray, dimensions: Sequence[int], card: ModelCard, evaluations: int) -> Work:
        """Of a volume. axes: [3, 3], the steps along i, j and k in mm as columns; dimensions: in
        the order i, j, k. The slices lie across the largest step, as most are acquired."""
        steps = np.linalg.norm(axes, axis=0)
        along = int(np.argmax(steps))
        sides = np.delete(steps * dimensions, along) / card.pixel_mm
        return Work(
            int(dimensions[along]), float(np.prod(np.maximum(sides, _LEAST_PIXELS))), evaluations
        )

    @property
    def standardSlices(self) -> float:
        """As many slices of 128 x 128 pixels have as many pixels."""
        return self.slices * self.pixels / _PIXELS


class RunClock:
    """Measures the evaluations of one run.

    Args:
        work: what the run does.
        now: seconds on a steady clock.
    """

    def __init__(self, work: Work, now: Callable[[], float] = time.monotonic) -> None:
        self.work, self._now = work, now
        self._marks: list[tuple[float, float]] = []  # when first and last, share of the work then

    def tick(self, fraction: float) -> None:
        """Notes that this share of the evaluations (0 to 1) is done now."""
        if not self._marks:
            self._marks = [(self._now(), fraction)] * 2
        elif fraction > self._marks[1][1]:  # what repeats the end is a sign of life, no evaluation
            self._marks[1] = (self._now(), fraction)

    @property
    def evaluation_s(self) -> float | None:
        """Seconds for one evaluation of a standard slice; None if there was too little to
        measure."""
        if not self._marks:
            return None
        (early, before), (late, after) = self._marks
        if after <= before or late <= early:
            return None
        evaluations = self.work.standardSlices * self.work.evaluations
        return (late - early) / ((after - before) * evaluations)


class Memory(Protocol):
    """Where durations are kept (parameters.ComputerSettings)."""

    def seconds(self, what: str) -> float | None: ...

    def setSeconds(self, what: str, seconds: float) -> None: ...


class Durations:
    """Estimates from the last runs on this computer, and before the first from the model's card."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def estimate(self, card: ModelCard, work: Work, device: str) -> dict[str, float]:
        """Seconds of a run with this choice of device, under the name "" if they were measured
        here; else by the devices that the card names. Empty if nothing is known."""
        start = self._memory.seconds(_start(device))
        if start is None:
            start = _PRIOR_START_S
        once, evaluation = (self._memory.seconds(_slice(what, card, device)) for what in _PARTS)
        if once is not None and evaluation is not None:
            return {"": start + work.standardSlices * (once + work.evaluations * evaluation)}
        # The card's seconds are those of a standard slice with four views.
        share = (_PRIOR_ONCE + work.evaluations) / (_PRIOR_ONCE + _CARD_EVALUATIONS)
        return {
            name: start + work.standardSlices * seconds * share
            for name, seconds in card.seconds_per_slice.items()
        }

    def learn(
        self,
        card: ModelCard,
        device: str,
        clock: RunClock,
        elapsed_s: float,
        translating_s: float,
    ) -> None:
        """Takes in a run that has succeeded: seconds from the click to the result, and those of
        them in which the model was at work (`seconds` of the provenance)."""
        self._keep(_start(device), max(elapsed_s - translating_s, 0.0))
        work, evaluation = clock.work, clock.evaluation_s
        if evaluation is None:
            return
        once = translating_s / work.standardSlices - work.evaluations * evaluation
        for what, seconds in zip(_PARTS, (max(once, 0.0), evaluation), strict=True):
            self._keep(_slice(what, card, device), seconds)

    def _keep(self, what: str, seconds: float) -> None:
        """The mean with what was known: a run beside which much else went on is soon forgotten."""
        known = self._memory.seconds(what)
        self._memory.setSeconds(what, seconds if known is None else (known + seconds) / 2)


def _start(device: str) -> str:
    return f"{device}/Start"


def _slice(what: str, card: ModelCard, device: str) -> str:
    network = f"{card.backbone_sha256} {card.pixel_mm}"
    return f"{device}/{what}-{zlib.crc32(network.encode()):08x}"
