"""The table as text: Markdown to read, CSV to go on with, JSON with the figures by subject."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from .bootstrap import Interval
from .cells import Cell
from .paper import PaperRow
from .report import estimate_text, markdown_table
from .scorer import FIGURES, gap_closed, summary

LOWER, UPPER = "histogram", "paired"
_MISSING = ""

_PAPER_NOTE = (
    "*Rows marked (paper) are quoted from arXiv 2301.13743, whose subjects, slices, resolution and "
    "masks are not known; its MI is read as normalised MI. Ours: over the full slice.*"
)


@dataclass
class DirectionTable:
    """All rows of one direction. left_out: methods that it can't have, with the reason."""

    dataset: str
    direction: str
    subjects: int
    cells: list[Cell]
    paper: list[PaperRow] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    frechet: str | None = None


def markdown(cells: Sequence[Cell], size: str, frechet: str | None = None) -> str:
    """One table: a row per method, a column per figure that some method has, the share of the gap
    closed where the rows `histogram` and `paired` exist, and the column `frechet`, if given."""
    summaries = [summary(cell.figures[size]) for cell in cells]
    shown = [f for f in FIGURES if any(f.key in values for values in summaries)]
    header = ["Method", *(f.heading for f in shown)]
    rows = [
        [cell.label, *(estimate_text(values.get(f.key), f.decimals) for f in shown)]
        for cell, values in zip(cells, summaries, strict=True)
    ]
    figures = {cell.name: cell.figures[size] for cell in cells}
    if LOWER in figures and UPPER in figures:
        for key, heading in (("ssim", "Gap closed, head"), ("ssim_full", "Gap closed, full")):
            header.append(heading)
            for row, cell in zip(rows, cells, strict=True):
                gap = gap_closed(cell.figures[size], figures[LOWER], figures[UPPER], key)
                row.append(estimate_text(gap, 2))
    if frechet is not None:
        header.append(frechet)
        for row, cell in zip(rows, cells, strict=True):
            row.append(_number(cell.frechet, 1))
    return markdown_table(header, rows)


def paper_markdown(table: DirectionTable, size: str) -> str:
    """Ours in the paper's columns, and the paper's rows below them."""
    header = ["Method", "SSIM to target", "SSIM to source", "MSE (8 bit)", "MI (normalised)"]
    header += ["PSNR (dB)", "FID"]
    other = table.frechet if table.frechet != "FID" else None
    rows = []
    for cell in table.cells:
        values = summary(cell.figures[size])
        keys = (("ssim_full", 3), ("ssim_source_full", 3), ("mse_8bit", 0), ("nmi", 2))
        row = [cell.label, *(_number(values[key].value, n) for key, n in (*keys, ("psnr_full", 2)))]
        row.append(_number(cell.frechet, 1) if table.frechet == "FID" else _MISSING)
        rows.append([*row, _number(cell.frechet, 1)] if other else row)
    for quoted in table.paper:
        method, *figures = asdict(quoted).values()
        rows.append([f"{method} (paper)", *figures, *([_MISSING] if other else [])])
    return markdown_table([*header, *([other] if other else [])], rows) + f"\n\n{_PAPER_NOTE}"


def document(title: str, facts: Sequence[str], tables: Sequence[DirectionTable]) -> str:
    """The whole report in Markdown: facts as a list, then each direction."""
    parts = [f"# {title}", "\n".join(f"- {fact}" for fact in facts)]
    for table in tables:
        parts.append(f"## {table.dataset} {table.direction}")
        for number, size in enumerate(table.cells[0].figures):
            people = "1 subject" if table.subjects == 1 else f"{table.subjects} subjects"
            parts.append(
                f"{table.dataset} {table.direction}, {size_text(size)}, {people}, mean (95 % "
                "interval by subject)"
            )
            parts.append(markdown(table.cells, size, table.frechet if number == 0 else None))
        if table.paper:
            parts.append("In the paper's columns, " + size_text(next(iter(table.cells[0].figures))))
            parts.append(paper_markdown(table, next(iter(table.cells[0].figures))))
        notes = [f"{cell.label}: {cell.model}" for cell in table.cells if cell.model]
        notes += [
            f"{cell.label}: {cell.steps} steps in {cell.learning_seconds:.0f} s"
            for cell in table.cells
            if cell.steps is not None
        ]
        notes += [f"{name}: left out, {reason}" for name, reason in table.left_out.items()]
        if notes:
            parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def csv_text(tables: Sequence[DirectionTable]) -> str:
    """One line per direction, size and method, and per row of the paper; empty: no such figure."""
    columns = ["dataset", "direction", "size", "method", "from", "subjects"]
    columns += ["learning_seconds", "seconds", "steps"]
    for figure in FIGURES:
        columns += [figure.key, f"{figure.key}_low", f"{figure.key}_high"]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*columns, "frechet", "frechet_network"], restval=_MISSING, lineterminator="\n"
    )
    writer.writeheader()
    for table in tables:
        place = {"dataset": table.dataset, "direction": table.direction}
        for cell in table.cells:
            for number, (size, figures) in enumerate(cell.figures.items()):
                row = {**place, "size": size, "method": cell.label, "from": "measured here"}
                row |= {"subjects": str(table.subjects), "seconds": _number(cell.seconds, 1)}
                row |= {"learning_seconds": _number(cell.learning_seconds, 1)}
                row |= {"steps": _MISSING if cell.steps is None else str(cell.steps)}
                for key, estimate in summary(figures).items():
                    row |= _columns(key, estimate)
                if table.frechet is not None and number == 0:
                    row |= {"frechet": _number(cell.frechet, 3), "frechet_network": table.frechet}
                writer.writerow(row)
        for quoted in table.paper:
            row = {**place, "method": quoted.method, "from": "arXiv 2301.13743"}
            row |= {"ssim_full": quoted.ssim_target, "ssim_source_full": quoted.ssim_source}
            row |= {"mse_8bit": quoted.mse_8bit, "nmi": quoted.mi, "psnr_full": quoted.psnr_db}
            writer.writerow(row | {"frechet": quoted.fid, "frechet_network": "FID"})
    return text.getvalue()


def as_json(table: DirectionTable) -> dict[str, object]:
    """The methods of a direction by name: times, figures of every subject and their summaries."""
    return {
        cell.name: {
            "label": cell.label,
            "model": cell.model,
            "learning_seconds": round(cell.learning_seconds, 1),
            "seconds": round(cell.seconds, 1),
            "steps": cell.steps,
            "frechet": cell.frechet,
            "frechet_network": table.frechet,
            "sizes": {
                size: {
                    "summary": {k: asdict(v) for k, v in summary(subjects).items()},
                    "subjects": subjects,
                }
                for size, subjects in cell.figures.items()
            },
        }
        for cell in table.cells
    }


def size_text(size: str) -> str:
    return "native grid" if size == "native" else f"{size} x {size} pixels"


def _columns(key: str, estimate: Interval) -> Mapping[str, str]:
    values = {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
    return {name: _number(value, 6) for name, value in values.items()}


def _number(value: float, decimals: int) -> str:
    return _MISSING if math.isnan(value) else f"{value:.{decimals}f}"
