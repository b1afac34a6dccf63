"""Markdown tables from result files of `midiffusion-research heads`.

    midiffusion-research heads-table default=heads.json "without look=heads_without_look.json" ...

The first file gives the table of all pairs; all files together the leave-one-out table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidParameter

from .report import markdown_table

FIGURES = ("brain_r", "ssim", "mae", "error_rank_head")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(
        prog="midiffusion-research heads-table", description="Tables of whole heads."
    )
    parser.add_argument("files", nargs="+", metavar="LABEL=FILE", help="result files")
    options = parser.parse_args(argv)
    documents = dict(_labelled(word) for word in options.files)
    print(_pairs(next(iter(documents.values()))))
    if len(documents) > 1:
        print()
        print(_leave_one_out(documents))
    return 0


def _labelled(word: str) -> tuple[str, list[dict[str, Any]]]:
    label, separator, path = word.partition("=")
    if not separator or not Path(path).is_file():
        raise InvalidParameter(f"{word} is not LABEL=FILE with an existing file.")
    return label, json.loads(Path(path).read_text(encoding="utf-8"))["rows"]


def _pairs(rows: list[dict[str, Any]]) -> str:
    """One row for each subject and direction."""
    header = ["subject", "source", "target", "brain r", "SSIM", "MAE", "error map"]
    body = [
        [row["subject"], row["source"], row["target"], *(_text(row[f]) for f in FIGURES)]
        for row in rows
    ]
    return markdown_table(header, body)


def _leave_one_out(documents: dict[str, list[dict[str, Any]]]) -> str:
    """Mean brain correlation and SSIM by target, one row for each file."""
    targets = sorted({row["target"] for rows in documents.values() for row in rows})
    header = ["pipeline"] + [f"{t} {f}" for t in targets for f in ("r", "SSIM")]
    body = []
    for label, rows in documents.items():
        cells = [
            _text(float(np.mean([row[f] for row in rows if row["target"] == target])))
            for target in targets
            for f in ("brain_r", "ssim")
        ]
        body.append([label, *cells])
    return markdown_table(header, body)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("0.", ".", 1)
