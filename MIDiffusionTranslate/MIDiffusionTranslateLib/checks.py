"""What can be refused before anything is started."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from midiffusion.errors import InvalidParameter
from midiffusion.names import is_device

_MAX_SEED = 2**63 - 1


def checkNumbers(steps: Any, seed: Any, samples: Any, device: Any) -> None:
    """Raises InvalidParameter."""
    if steps is not None and not _isWhole(steps, 1):
        raise InvalidParameter(f"Steps is {steps}: it must be a whole number, 1 or more.")
    if not _isWhole(samples, 1):
        raise InvalidParameter(f"Samples is {samples}: it must be a whole number, 1 or more.")
    if not _isWhole(seed, 0) or seed > _MAX_SEED:
        raise InvalidParameter(f"Seed is {seed}: it must be a whole number, 0 or more.")
    if not is_device(device):
        raise InvalidParameter(
            f"Device is {device}: it must be auto, cpu, mps, cuda or cuda:<number>."
        )


def _isWhole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def checkOutput(output: Any, source: Any) -> None:
    """Raises InvalidParameter."""
    if output is None:
        return
    if output is source:
        raise InvalidParameter("The output can't be the source itself: choose another volume.")
    if output.GetClassName() != "vtkMRMLScalarVolumeNode":
        raise InvalidParameter(
            f"The output '{output.GetName()}' is not a scalar volume: choose another, or none for "
            "a new one."
        )
