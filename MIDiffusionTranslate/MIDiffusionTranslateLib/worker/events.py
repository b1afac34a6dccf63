"""Progress and results of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class WorkerProgress:
    """One step forward; the names are those of `midiffusion.runtime.progress.Progress`.

    step of `of`, and slices done of `slices` within it; eta_s: seconds left or None; memory_bytes:
    memory in use on the device or None; preview: float32 [H, W] or None.
    """

    step: int
    of: int
    slices_done: int
    slices: int
    eta_s: float | None
    device: str
    memory_bytes: int | None
    preview: np.ndarray | None = None

    @property
    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        done = (self.step - 1 + self.slices_done / max(self.slices, 1)) / max(self.of, 1)
        return min(max(done, 0.0), 1.0)

    @classmethod
    def ofEvent(cls, event: dict[str, Any]) -> WorkerProgress:
        """Of the fields of a "progress" event; raises KeyError, TypeError and ValueError."""
        eta_s, used = event["eta_s"], event["memory"]
        return cls(
            step=int(event["step"]),
            of=int(event["of"]),
            slices_done=int(event["slices_done"]),
            slices=int(event["slices"]),
            eta_s=None if eta_s is None else float(eta_s),
            device=str(event["device"]),
            memory_bytes=None if used is None else int(used),
        )


@dataclass(frozen=True, eq=False)
class WorkerResult:
    """Arrays [k, j, i] float32 on the source's grid, and how they were computed.

    error_map: expected absolute error in the units of the result, None for one view. deviation:
    standard deviation of the samples, None for fewer than two.
    """

    data: np.ndarray
    error_map: np.ndarray | None
    deviation: np.ndarray | None
    provenance: dict[str, Any]
