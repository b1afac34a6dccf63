"""Progress of translations and downloads, for people who watch a terminal or a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from .sampling import Progress

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
