"""`midiffusion benchmark table`: the fidelity protocol for any method, in one command.

Prints one Markdown table per direction and picture size on stdout, progress on stderr; `--json`
keeps every figure of every subject.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..arguments import Arguments, device_name
from ..device import choose_device, describe
from ..errors import InvalidParameter
from .baselines import Budget, HistogramMatching, Identity, Method
from .baselines.diffusion import MIDiffusion, Sampling
from .datasets import DATASETS, Dataset, Subject, dataset
from .predictions import read_predictions, write_predictions
from .report import estimate_text, markdown_table, say, write_json
from .scorer import FIGURES, SubjectFigures, gap_closed, score_subject, summary

METHODS = ("identity", "histogram", "regressor", "paired", "midiffusion")
_LOWER, _UPPER = "histogram", "paired"


@dataclass
class Cell:
    """One method in one direction: figures by size ("128", "native"), then by subject."""

    method: str
    seconds: float
    figures: dict[str, dict[str, SubjectFigures]] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    if options.subjects is not None and options.subjects < 1:
        raise InvalidParameter("--subjects must be at least 1.")
    if not options.methods and not options.predictions:
        raise InvalidParameter("Nothing to score: give --methods or --predictions.")
    data = dataset(options.dataset)
    report: dict[str, object] = {
        "version": __version__,
        "device": describe(choose_device(options.device)),
        "dataset": data.name,
        "sampling": asdict(_sampling(options)),
        "budget": {"seconds": options.budget, "size": options.learn_size, "seed": options.seed},
        "directions": {},
    }
    for direction in options.directions or data.directions[:1]:
        subjects = data.load(options.data, direction, "val")[: options.subjects]
        cells = _cells(options, data, direction, subjects)
        report["directions"][direction] = _as_json(cells)  # type: ignore[index]
        for size in cells[0].figures:
            print(
                f"\n{data.name} {direction}, {_size_text(size)}, {len(subjects)} subjects, "
                "mean (95 % interval by subject)\n"
            )
            print(markdown({cell.method: cell.figures[size] for cell in cells}))
    if options.json is not None:
        write_json(options.json, report)
    return 0


def markdown(figures: Mapping[str, Mapping[str, SubjectFigures]]) -> str:
    """One table: a row per method (figures by subject), a column per figure that some method has,
    and the share of the gap closed where the rows `histogram` and `paired` exist."""
    summaries = {method: summary(values) for method, values in figures.items()}
    shown = [f for f in FIGURES if any(f.key in values for values in summaries.values())]
    header = ["Method", *(f.heading for f in shown)]
    rows = [
        [method, *(estimate_text(values.get(f.key), f.decimals) for f in shown)]
        for method, values in summaries.items()
    ]
    if _LOWER in figures and _UPPER in figures:
        for key, heading in (("ssim", "Gap closed, head"), ("ssim_full", "Gap closed, full")):
            header.append(heading)
            for row in rows:
                gap = gap_closed(figures[row[0]], figures[_LOWER], figures[_UPPER], key)
                row.append(estimate_text(gap, 2))
    return markdown_table(header, rows)


def _cells(
    options: argparse.Namespace, data: Dataset, direction: str, subjects: Sequence[Subject]
) -> list[Cell]:
    cells = []
    for name in options.methods:
        started = time.monotonic()
        method = _method(name, options, data, direction)
        outputs = {}
        for number, subject in enumerate(subjects, start=1):
            outputs[subject.id] = method.translate(subject.source)
            elapsed = time.monotonic() - started
            say(
                f"{direction} {name}: {number} of {len(subjects)} subjects, {elapsed:.0f} s",
                last=number == len(subjects),
            )
        seconds = time.monotonic() - started
        if options.save is not None:
            file = f"{data.name}_{direction.replace(':', '-')}_{name}.npz"
            write_predictions(options.save / file, outputs)
        cells.append(_scored(name, outputs, data, direction, subjects, seconds))
    for name, path in options.predictions:
        outputs = read_predictions(path, subjects)
        cells.append(_scored(name, outputs, data, direction, subjects, float("nan")))
    return cells


def _scored(
    name: str,
    outputs: Mapping[str, NDArray[np.float32]],
    data: Dataset,
    direction: str,
    subjects: Sequence[Subject],
    seconds: float,
) -> Cell:
    cell = Cell(name, seconds)
    modality = direction.split(":")[1].upper()
    for size in data.sizes or (None,):
        cell.figures["native" if size is None else str(size)] = {
            s.id: score_subject(outputs[s.id], s, size, modality) for s in subjects
        }
    return cell


def _method(name: str, options: argparse.Namespace, data: Dataset, direction: str) -> Method:
    if name == "identity":
        return Identity()
    if name == "histogram":
        method = HistogramMatching()
        method.fit(_training_subjects(options, data, direction), Budget(steps=1))
        return method
    if name in ("regressor", "paired"):
        return _regressor(name == "paired", options, data, direction)
    model = options.model or direction.split(":")[1]
    return MIDiffusion.from_bundle(model, options.model_folder, _sampling(options))


def _regressor(paired: bool, options: argparse.Namespace, data: Dataset, direction: str) -> Method:
    from .baselines.regressor import Regressor

    train = _training_subjects(options, data, direction)
    if paired and direction not in dataset(data.training).directions:
        raise InvalidParameter(f"{data.training} has no pairs {direction} to learn from.")
    device = str(choose_device(options.device))
    method = Regressor(paired=paired, size=options.learn_size, device=device, seed=options.seed)
    method.fit(train, Budget(seconds=options.budget))
    say(f"{direction} {method.name}: {method.steps} steps learnt", last=True)
    return method


def _training_subjects(options: argparse.Namespace, data: Dataset, direction: str) -> list[Subject]:
    """Training subjects of this direction, or else of one with the same target; a collection for
    evaluation alone names the one that takes its place."""
    target = direction.split(":")[1]
    source_of_training = dataset(data.training)
    same = [d for d in source_of_training.directions if d.endswith(f":{target}")]
    same.sort(key=lambda found: found != direction)
    if not same:
        raise InvalidParameter(
            f"{source_of_training.name} has no {target.upper()} to learn from; for this direction "
            "choose from the methods identity and midiffusion."
        )
    folder = options.train_data
    if folder is None:
        inside = (options.data / source_of_training.name.replace("-", "_")).is_dir()
        same_one = source_of_training.name == data.name
        folder = options.data if same_one or inside else options.data.parent
    return source_of_training.load(folder, same[0], "train")


def _sampling(options: argparse.Namespace) -> Sampling:
    return Sampling(options.steps, options.samples, options.seed, options.sampler, options.device)


def _size_text(size: str) -> str:
    return "native grid" if size == "native" else f"{size} x {size} pixels"


def _as_json(cells: Sequence[Cell]) -> dict[str, object]:
    return {
        cell.method: {
            "seconds": None if np.isnan(cell.seconds) else round(cell.seconds, 1),
            "sizes": {
                size: {
                    "summary": {k: asdict(v) for k, v in summary(subjects).items()},
                    "subjects": subjects,
                }
                for size, subjects in cell.figures.items()
            },
        }
        for cell in cells
    }


def _prediction(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE.npz")
    return name, Path(file)


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion benchmark table", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS, help="collection")
    add("--data", required=True, type=Path, metavar="DIR", help="its folder, or the one round it")
    add(
        "--train-data",
        type=Path,
        metavar="DIR",
        help="folder of the training collection, where that is another (default: beside --data)",
    )
    add("--directions", nargs="+", metavar="SOURCE:TARGET", help="default: the collection's first")
    add("--methods", nargs="*", choices=METHODS, default=["identity", "histogram"])
    add(
        "--predictions",
        nargs="+",
        type=_prediction,
        default=[],
        metavar="NAME=FILE.npz",
        help="score the outputs of another method: one array per subject id, in model units",
    )
    add(
        "--budget",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="for each method that learns here (default 600)",
    )
    add(
        "--learn-size",
        type=int,
        choices=(128, 64),
        default=128,
        help="pixels of the slices that those work on; with 64 compare figures at 64 only",
    )
    add("--model", metavar="ID", help="bundle, by id or folder (default: the target's)")
    add("--model-folder", type=Path, metavar="DIR", help="further folder of bundles")
    add("--steps", type=int, metavar="N", help="network evaluations per slice and sample")
    add("--samples", type=int, default=1, metavar="K", help="samples to average (default 1)")
    add("--sampler", metavar="NAME", help="default: the bundle's")
    add("--seed", type=int, default=0, metavar="S")
    add("--device", default="auto", type=device_name, help="auto, cuda[:i], mps or cpu")
    add("--subjects", type=int, metavar="N", help="only the first N subjects: a quick look")
    add("--save", type=Path, metavar="DIR", help="keep the outputs as .npz for --predictions")
    add("--json", type=Path, metavar="OUT", help="every figure of every subject")
    return parser
