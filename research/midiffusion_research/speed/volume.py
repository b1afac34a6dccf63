"""A whole volume, from voxels to voxels, and the time of each step of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from midiffusion.pipeline import translate as pipeline
from midiffusion.pipeline.case import Case
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.pipeline.step import Step
from midiffusion.pipeline.target import TargetModel

from .timing import clock, phantom


@dataclass(frozen=True)
class VolumeRun:
    """One translation of `slices` slices of size x size pixels with the default options.

    seconds: all of it, undisturbed. processor_s: time of all this process's threads meanwhile; on a
    CPU much less than seconds times threads says that others used the computer too. steps: seconds
    of each step, from another run in which the clock waits for the device after each.
    """

    slices: int
    size: int
    views: int
    seconds: float
    processor_s: float
    steps: dict[str, float]


def measure(model: TargetModel, device: torch.device, slices: int, size: int) -> VolumeRun:
    """Translates a phantom three times: two of its slices to warm up, then all, then by steps."""
    options = TranslationOptions(device=str(device))
    model.translate(phantom(2, size, model.card.pixel_mm), options)
    volume = phantom(slices, size, model.card.pixel_mm)
    start, processor = time.perf_counter(), time.process_time()
    model.translate(volume, options)  # returns when the result is in the computer
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    with timed_steps(device) as taken:
        model.translate(volume, options)
    return VolumeRun(slices, size, options.views, seconds, processor, taken)


@contextmanager
def timed_steps(device: torch.device) -> Iterator[dict[str, float]]:
    """Fills with the seconds of each step of the translations inside."""
    taken: dict[str, float] = {}
    steps = tuple(_timed(step, device, taken) for step in pipeline.STEPS)
    with mock.patch.object(pipeline, "STEPS", steps):
        yield taken


def _timed(step: Step, device: torch.device, taken: dict[str, float]) -> Step:
    """The same step, which adds its seconds to `taken`."""
    kind: Any = type(step)

    class Timed(kind):
        def run(self, case: Case) -> dict[str, Any]:
            start = clock(device)
            figures: dict[str, Any] = super().run(case)
            taken[step.name] = taken.get(step.name, 0.0) + clock(device) - start
            return figures

    parameters: dict[str, Any] = asdict(step)  # type: ignore[call-overload]
    timed: Step = Timed(**parameters)
    return timed
