"""The standard streams of a command: whatever they are, a command keeps its exit code and files."""

from __future__ import annotations

import contextlib
import os
import sys


def prepare() -> None:
    """Makes every stream writable: one that is closed goes nowhere, and one that can't show a
    letter shows its code."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would become that stream
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """One line to stdout; nobody has to read it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Or the interpreter complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
