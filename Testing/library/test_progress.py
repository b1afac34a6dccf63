"""The bar of a translation: on a terminal, and where its lines are kept."""

from __future__ import annotations

import time
from typing import Any

from midiffusion.runtime.progress import Progress, TranslationBar


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "step": 2, "of": 4, "slices_done": 5, "slices": 10, "eta_s": 12.4, "device": "cpu",
        "memory_bytes": 0, "preview": None,
    }  # fmt: skip
    return Progress(**{**values, **changes})


class Stream:
    def __init__(self, live: bool) -> None:
        self.live, self.text = live, ""

    def isatty(self) -> bool:
        return self.live

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_bar_on_a_terminal_shows_the_share_done_and_goes_away():
    stream = Stream(live=True)
    with TranslationBar(stream) as bar:  # type: ignore[arg-type]
        bar.show(progress())  # one step of four and half of the second: 9 of 24 marks
        assert "[" + "#" * 9 + " " * 15 + "] step 2 of 4 on cpu, 12 s left" in stream.text
    assert stream.text.endswith("\r\x1b[K") and "\n" not in stream.text


def test_bar_elsewhere_is_quiet_for_some_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = Stream(live=False)
    with TranslationBar(stream) as bar:  # type: ignore[arg-type]
        for now[0] in (0.1, 4.9, 5.1, 5.2, 10.3):
            bar.show(progress(eta_s=None))
    assert stream.text == 2 * " 38 %  step 2 of 4 on cpu\n"
