"""A whole volume, from voxels to voxels, and what each stage takes of it (B7)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from ...lmi import LocalMutualInformation
from ...model import TranslationModel
from ...network import UNet
from .tables import STAGES
from .timing import clock, phantom


@dataclass(frozen=True)
class VolumeRun:
    """One translation of `slices` slices of size x size pixels, one sample, the card's steps.

    seconds: all of it, undisturbed. processor_s: time of all this process's threads meanwhile; on a
    CPU much less than seconds times threads says that others used the computer too. stages: seconds
    of each, from another run in which the clock waits for the device after each part.
    with_agreement_s: seconds of a run that makes the agreement map as well, as the panel's do.
    """

    slices: int
    size: int
    steps: int
    seconds: float
    processor_s: float
    stages: dict[str, float]
    with_agreement_s: float


def measure(model: TranslationModel, device: torch.device, slices: int, size: int) -> VolumeRun:
    """Translates a phantom four times: two of its slices to warm up, then all, then by stages, then
    with the agreement map."""
    card = model.card
    name = str(device)
    model.translate(phantom(2, size, card.pixel_mm, card.orientation), device=name)
    volume = phantom(slices, size, card.pixel_mm, card.orientation)
    start, processor = time.perf_counter(), time.process_time()
    made = model.translate(volume, device=name)  # returns when the result is in the computer
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    watch = _Watch(device)
    with watch.running():
        model.translate(volume, device=name)
    start = time.perf_counter()
    model.translate(volume, device=name, agreement=True)
    more = time.perf_counter() - start
    steps = int(made.provenance["steps"])
    return VolumeRun(slices, size, steps, seconds, processor, watch.stages(), more)


@dataclass
class _Watch:
    """Listens to every call of the network and of the LMI layer."""

    device: torch.device
    calls: list[tuple[str, float, float]] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0
    _entered: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        self.begin = clock(self.device)
        try:
            yield
        finally:
            self.end = clock(self.device)
            for hook in hooks:
                hook.remove()

    def _enter(self, module: torch.nn.Module, _: object) -> None:
        if isinstance(module, (UNet, LocalMutualInformation)):
            self._entered = clock(self.device)

    def _leave(self, module: torch.nn.Module, _: object, __: object) -> None:
        if isinstance(module, (UNet, LocalMutualInformation)):
            kind = "network" if isinstance(module, UNet) else "maps"
            self.calls.append((kind, self._entered, clock(self.device)))

    def stages(self) -> dict[str, float]:
        """Seconds of each of STAGES; together they are the run."""
        first = next(n for n, (kind, _, _) in enumerate(self.calls) if kind == "network")
        sampling = self.calls[first:]
        start, stop = self.calls[first][1], sampling[-1][2]
        opening = self.calls[0][1]
        taken = {
            kind: sum(after - before for what, before, after in sampling if what == kind)
            for kind in ("network", "maps")
        }
        parts = (
            opening - self.begin,
            start - opening,
            taken["network"],
            taken["maps"],
            stop - start - sum(taken.values()),
            self.end - stop,
        )
        return dict(zip(STAGES, parts, strict=True))
