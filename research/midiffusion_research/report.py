"""What the benchmark commands share in writing their results."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from midiffusion.errors import UnwritableTarget

from .bootstrap import Interval


def estimate_text(estimate: Interval | None, decimals: int) -> str:
    """ "0.648 (0.603 to 0.694)"; empty where there is no such figure. The value stands alone where
    an interval would say nothing: of one subject (or subjects all alike), and "inf" where some
    subject's figure is infinite (the signal-to-noise ratio of a perfect output)."""
    if estimate is None or np.isnan(estimate.value):
        return ""
    value, low, high = (f"{x:.{decimals}f}" for x in (estimate.value, estimate.low, estimate.high))
    alone = not np.isfinite(estimate.value) or np.isclose(estimate.low, estimate.high, 1e-9, 0)
    return value if alone else f"{value} ({low} to {high})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_json(path: Path, report: Mapping[str, object]) -> None:
    """Writes a report whole or not at all; raises UnwritableTarget."""
    write_text(path, json.dumps(_without_gaps(report), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text whole or not at all; raises UnwritableTarget."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UnwritableTarget(f"{path} can't be written: {error}") from error


def say(text: str, *, last: bool) -> None:
    """Progress on stderr: one line rewritten on a terminal, elsewhere its last state alone."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(text, file=sys.stderr, flush=True)


def _without_gaps(value: object) -> object:
    """JSON knows neither NaN nor infinity: null takes their place."""
    if isinstance(value, Mapping):
        return {key: _without_gaps(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_gaps(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
