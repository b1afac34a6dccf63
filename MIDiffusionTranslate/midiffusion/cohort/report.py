"""The quality report: one HTML page without other files, for one result or for thousands."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidData
from .results import figures_of, read_sidecar, unit_of, warnings_of
from .status import DONE, FAILED, read_status
from .thumbnail import thumbnail, thumbnail_path

if TYPE_CHECKING:
    from ..images.volume import Volume
    from ..pipeline.translate import Translation

REPORT = "report.html"
OUTLIER = 3.5  # robust z-score, Iglewicz and Hoaglin (1993)
_FIGURES = ("expected_error", "familiarity_distance")
_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Entry:
    """One result in the report.

    figures: see `figures_of`. unit: of the expected error, "HU" or "". picture: JPEG, see
    `thumbnail`.
    """

    item: str
    model: str
    state: str
    message: str = ""
    warnings: Sequence[str] = ()
    figures: dict[str, float | None] = field(default_factory=dict)
    unit: str = ""
    picture: bytes | None = None


def write_report(out: Path, path: Path | None = None) -> Path:
    """The report of a folder of results; returns its path, OUT/report.html by default.

    Raises:
        InvalidData: the folder has no status table.
        UnwritableTarget, DiskFull.
    """
    rows = read_status(out)
    if not rows:
        raise InvalidData(f"{out} has no status.tsv with results: run the batch first.")
    entries = []
    for row in rows:
        result = out / row.result
        sidecar = (read_sidecar(result) or {}) if row.result else {}
        picture = thumbnail_path(out, result) if row.result else None
        entries.append(
            Entry(
                row.item,
                row.model,
                row.state,
                row.error,
                sidecar.get("Warnings", ()),
                sidecar.get("Figures", {}),
                sidecar.get("Units", ""),
                picture.read_bytes() if picture is not None and picture.is_file() else None,
            )
        )
    return write_page(entries, path or out / REPORT)


def page_of_one(path: Path, name: str, source: Volume, made: Translation) -> Path:
    """The page of one translation. Raises UnwritableTarget, DiskFull."""
    picture = thumbnail(source, made.volume, made.error_map)
    entry = Entry(
        name,
        made.provenance["model"],
        DONE,
        warnings=warnings_of(made),
        figures=figures_of(made),
        unit=unit_of(made),
        picture=picture,
    )
    return write_page([entry], path)


def write_page(entries: Sequence[Entry], path: Path) -> Path:
    """The page of some entries, whole or not at all. Raises UnwritableTarget, DiskFull."""
    from ..images.io import unwritable

    data = json.dumps(
        [_described(entry, z) for entry, z in zip(entries, _outliers(entries), strict=False)]
    )
    page = _TEMPLATE.read_text(encoding="utf-8")
    # "</" would end the script in which the data lie.
    page = page.replace("/*ENTRIES*/[]", data.replace("</", "<\\/"))
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)
    except OSError as failure:
        part.unlink(missing_ok=True)
        raise unwritable(path, failure) from failure
    return path


def _described(entry: Entry, z: dict[str, float]) -> dict[str, Any]:
    picture = "" if entry.picture is None else base64.b64encode(entry.picture).decode("ascii")
    failed = entry.state == FAILED
    # Failed first, then outliers and warnings: what a reader should look at.
    worst = 1000.0 * failed + 10.0 * bool(entry.warnings) + max([0.0, *z.values()])
    return {
        "item": entry.item,
        "model": entry.model,
        "state": entry.state,
        "message": entry.message,
        "warnings": list(entry.warnings),
        "figures": {name: entry.figures.get(name) for name in (*_FIGURES, "seconds")},
        "z": {name: round(value, 1) for name, value in z.items()},
        "outlier": max([0.0, *z.values()]) > OUTLIER,
        "worst": round(worst, 2),
        "unit": entry.unit,
        "picture": picture,
    }


def _outliers(entries: Sequence[Entry]) -> list[dict[str, float]]:
    """Robust z-scores of the figures, each model against its own results; high is bad."""
    scores: list[dict[str, float]] = [{} for _ in entries]
    for model in {entry.model for entry in entries}:
        for name in _FIGURES:
            known = [
                (number, float(value))
                for number, entry in enumerate(entries)
                if entry.model == model and (value := entry.figures.get(name)) is not None
            ]
            values = np.array([value for _, value in known])
            if len(values) < 5:
                continue  # too few to say what is usual
            middle = np.median(values)
            spread = np.median(np.abs(values - middle))
            for number, value in known:
                if spread > 0:
                    scores[number][name] = float(0.6745 * (value - middle) / spread)
    return scores
