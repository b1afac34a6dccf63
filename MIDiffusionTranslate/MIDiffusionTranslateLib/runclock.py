"""How fast a run is on this computer, for the next one's estimate."""

from __future__ import annotations

import time
from collections.abc import Callable

from .parameters import Speed


class RunClock:
    """Fits startup + unit * units to the progress of one run.

    Args:
        units: the run's work, slices * steps * samples.
        now: seconds on a steady clock.
    """

    def __init__(self, units: int, now: Callable[[], float] = time.monotonic) -> None:
        self._units, self._now = units, now
        self._begin = now()
        self._marks: list[tuple[float, float]] = []  # seconds since the begin, units done

    def tick(self, fraction: float) -> None:
        """Notes the time at which this share of the work (0 to 1) was done."""
        mark = (self._now() - self._begin, fraction * self._units)
        if len(self._marks) < 2:
            self._marks.append(mark)
        else:
            self._marks[1] = mark

    def speed(self) -> Speed | None:
        """The fit; None if there was too little to measure."""
        if len(self._marks) < 2:
            return None
        (early, before), (late, after) = self._marks
        if after <= before or late <= early:
            return None
        unit = (late - early) / (after - before)
        return Speed(max(early - unit * before, 0.0), unit)
