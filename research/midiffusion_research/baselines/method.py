"""What every method of the table does, ours and the baselines alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from midiffusion.errors import InvalidParameter
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

from ..datasets.subject import Subject


@dataclass(frozen=True)
class Budget:
    """What a method may spend on learning: seconds or optimiser steps, the same for all that learn.

    At least one is given; with both, whichever ends first. Raises InvalidParameter otherwise.
    """

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.seconds, self.steps) if limit is not None]
        if not given or min(given) <= 0:
            raise InvalidParameter("A training budget needs seconds or steps, above zero.")

    def share(self, seconds: float, steps: int) -> float:
        """How much of the budget so many seconds and steps have used; from 1 on it is spent."""
        shares = [seconds / self.seconds if self.seconds else 0.0]
        shares.append(steps / self.steps if self.steps else 0.0)
        return max(shares)

    def spent(self, seconds: float, steps: int) -> bool:
        """Whether training has to end after so many seconds and steps."""
        return self.share(seconds, steps) >= 1.0


class Method(Protocol):
    """A translator under test."""

    name: str

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Learns from training subjects, in whose target the method is interested alone unless its
        name says that it is paired."""
        ...

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """One subject's source, [S, H, W] in model units, to the target's: the same shape."""
        ...
