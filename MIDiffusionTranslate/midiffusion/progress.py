"""Progress of a translation, for people who watch a terminal or a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from .model import Progress


class TranslationBar:
    """Progress of a translation: a bar on a terminal, elsewhere a line every few seconds."""

    LINE_EVERY_S = 5.0
    WIDTH = 24

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._last = time.monotonic()

    def __enter__(self) -> TranslationBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._write("\r\x1b[K")

    def show(self, progress: Progress) -> None:
        """Takes what `TranslationModel.translate` reports on every batch."""
        now = time.monotonic()
        if not self._live and now - self._last < self.LINE_EVERY_S:
            return
        self._last = now
        done = (progress.step - 1 + progress.slices_done / max(progress.slices, 1)) / progress.of
        text = f"step {progress.step} of {progress.of} on {progress.device}"
        if progress.eta_s is not None:
            text += f", {progress.eta_s:.0f} s left"
        if self._live:
            filled = round(self.WIDTH * min(max(done, 0.0), 1.0))
            self._write(f"\r\x1b[K[{'#' * filled:<{self.WIDTH}}] {text}")
        else:
            self._write(f"{100 * done:3.0f} %  {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
