"""`midiffusion-research study pipeline`: what each optional step of the pipeline is worth.

The pipeline translates whole heads with the default options, then with one step left out. The
figures are those of `whole_heads`, with 95 % intervals by subject.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from midiffusion import __version__
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.io import read_volume
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.pipeline.target import TargetModel, load_model
from midiffusion.pipeline.translate import OPTIONAL

from .bootstrap import interval
from .report import estimate_text, markdown_table, say, write_json
from .whole_heads import Pair, figures, pairs

DEFAULT, ONE_VIEW = "default", "one view"
CHANGING = tuple(step for step in OPTIONAL if step != "familiarity")  # which only warns
FIGURES = {"brain_r": "brain r", "ssim": "SSIM", "mae": "MAE"}

Rows = list[dict[str, Any]]


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    if options.tables is not None:
        if not options.tables.is_file():
            raise InvalidParameter(f"{options.tables} is no file.")
        document = json.loads(options.tables.read_text(encoding="utf-8"))
    elif options.data is None:
        raise InvalidParameter("--data DIR is missing: the folder of the whole heads.")
    else:
        document = _study(options)
        if options.json is not None:
            write_json(options.json, document)
    print(pair_table(document["variants"][DEFAULT]), end="\n\n")
    print(leave_one_out_table(document["variants"]))
    return 0


def variants(without: Sequence[str]) -> dict[str, TranslationOptions]:
    """The default and what is compared with it: these steps left out one at a time, or all."""
    found = {DEFAULT: TranslationOptions()}
    for step in without or CHANGING:
        found[f"without {step}"] = TranslationOptions(without=(step,))
    if not without:
        found[ONE_VIEW] = TranslationOptions(views=1)
    return found


def _study(options: Any) -> dict[str, Any]:
    chosen = [
        pair
        for pair in pairs(options.data)
        if (not options.targets or pair.target in options.targets)
        and (not options.subjects or pair.subject in options.subjects)
    ]
    if not chosen:
        raise InvalidData(f"{options.data} holds no pair of whole heads that was asked for.")
    models = {pair.target: load_model(pair.target, options.models) for pair in chosen}
    found: dict[str, Rows] = {}
    for name, how in variants(options.without).items():
        found[name] = []
        for pair in chosen:
            found[name].append(_row(pair, models[pair.target], how))
            say(f"{name}: {len(found[name])} of {len(chosen)}", last=pair is chosen[-1])
    return {
        "version": __version__,
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "weights": {
            name: [model.card.weights_sha256, model.card.backbone_sha256]
            for name, model in models.items()
        },
        "variants": found,
    }


def _row(pair: Pair, model: TargetModel, how: TranslationOptions) -> dict[str, Any]:
    made = model.translate(read_volume(pair.source_file), how)
    error = None if made.error_map is None else made.error_map.data
    return asdict(figures(pair, made.volume.data, error, read_volume(pair.target_file)))


def pair_table(rows: Rows) -> str:
    """One line for each subject and direction."""
    columns = [*FIGURES, "error_rank_head"]
    header = ["subject", "source", "target", *FIGURES.values(), "error map"]
    body = [
        [row["subject"], row["source"], row["target"], *(_text(row[name]) for name in columns)]
        for row in rows
    ]
    return markdown_table(header, body)


def leave_one_out_table(found: dict[str, Rows]) -> str:
    """One line for each target and variant: means over subjects with intervals."""
    targets = sorted({row["target"] for row in found[DEFAULT]})
    body = [
        [target, name, *(estimate_text(interval(_by_subject(rows, target, f)), 3) for f in FIGURES)]
        for target in targets
        for name, rows in found.items()
    ]
    return markdown_table(["target", "pipeline", *FIGURES.values()], body)


def _by_subject(rows: Rows, target: str, figure: str) -> list[float]:
    """The mean over the sources of each subject."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["target"] == target:
            values.setdefault(row["subject"], []).append(row[figure])
    return [float(np.mean(several)) for several in values.values()]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("0.", ".", 1)


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion-research study", description="What each step of the pipeline is worth."
    )
    add = parser.add_argument
    add("what", choices=("pipeline",), help="the leave-one-out study of the pipeline")
    add("--data", type=Path, metavar="DIR", help="folder with openms_wholehead and volumes")
    text = "leave out this step (repeatable); default: each in turn, and a single view"
    add("--without", action="append", default=[], choices=OPTIONAL, metavar="STEP", help=text)
    add("--models", type=Path, metavar="DIR", help="folder of models; default: those that ship")
    add("--targets", nargs="*", metavar="ID", help="targets to measure; default: all")
    add("--subjects", nargs="*", metavar="ID", help="subjects to measure; default: all")
    add("--json", type=Path, metavar="FILE", help="keep the figures")
    add("--tables", type=Path, metavar="FILE", help="print the tables of a result file, no more")
    return parser
