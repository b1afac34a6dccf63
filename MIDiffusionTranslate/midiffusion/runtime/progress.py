"""Progress of translations and downloads, for people who watch a terminal or a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """Where a translation stands.

    step, of: the network evaluation of all slices at work, from 1, and how many there are.
    slices_done, slices: within this evaluation. eta_s: seconds left. memory_bytes: most memory used
    so far, None where that isn't known. preview: the middle slice as now estimated, [H, W] in model
    units, with the last batch of an evaluation; None otherwise.
    """

    step: int
    of: int
    slices_done: int
    slices: int
    eta_s: float | None
    device: str
    memory_bytes: int | None
    preview: np.ndarray | None


class Reporter:
    """Tells the caller between batches how far a translation is; an exception there ends it.

    `plan` gets the number of slices of each evaluation to come; `begin` starts the next one.
    """

    def __init__(
        self, device: torch.device, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.step = 0
        self._device = device
        self._on_progress = on_progress
        self._counts: list[int] = []
        self._started = time.monotonic()

    def plan(self, counts: list[int]) -> None:
        self._counts = counts

    def begin(self) -> None:
        self.step += 1

    def batch_done(self, done: int) -> None:
        if done < self._counts[self.step - 1]:  # the last batch is reported with its preview
            self._send(done, None)

    def evaluation_done(self, estimate: Tensor) -> None:
        if self._on_progress is not None:
            count = self._counts[self.step - 1]
            self._send(count, estimate[count // 2, 0].cpu().numpy().copy())

    def _send(self, done: int, preview: np.ndarray | None) -> None:
        if self._on_progress is None:
            return
        from .device import memory_bytes  # needs torch, which a command's help must not load

        share = (sum(self._counts[: self.step - 1]) + done) / max(1, sum(self._counts))
        self._on_progress(
            Progress(
                step=self.step,
                of=len(self._counts),
                slices_done=done,
                slices=self._counts[self.step - 1],
                eta_s=(time.monotonic() - self._started) * (1 / share - 1),
                device=str(self._device),
                memory_bytes=memory_bytes(self._device),
                preview=preview,
            )
        )


_Bar = TypeVar("_Bar", bound="Bar")


class Bar:
    """Progress of anything: a bar on a terminal, elsewhere a line every few seconds."""

    LINE_EVERY_S = 5.0
    WIDTH = 24

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._last = time.monotonic()

    def __enter__(self: _Bar) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._write("\r\x1b[K")

    def draw(self, done: float, text: str) -> None:
        """The share that is done, 0 to 1, and what there is to say."""
        now = time.monotonic()
        if not self._live and now - self._last < self.LINE_EVERY_S:
            return
        self._last = now
        if self._live:
            filled = round(self.WIDTH * min(max(done, 0.0), 1.0))
            self._write(f"\r\x1b[K[{'#' * filled:<{self.WIDTH}}] {text}")
        else:
            self._write(f"{100 * done:3.0f} %  {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class TranslationBar(Bar):
    def show(self, progress: Progress) -> None:
        """Takes what `TranslationModel.translate` reports on every batch."""
        done = (progress.step - 1 + progress.slices_done / max(progress.slices, 1)) / progress.of
        text = f"step {progress.step} of {progress.of} on {progress.device}"
        if progress.eta_s is not None:
            text += f", {progress.eta_s:.0f} s left"
        self.draw(done, text)


class DownloadBar(Bar):
    def show(self, done: int, of: int) -> None:
        """Takes what `download` reports: bytes."""
        self.draw(done / max(of, 1), f"{done / 1e6:.1f} of {of / 1e6:.1f} MB")
