"""`midiffusion-research table`: the fidelity protocol for any method, in one command.

Prints the table as Markdown on stdout, progress on stderr, and keeps in `--out`: the table as .md,
.csv and .json, a sheet of pictures per direction, every cell once computed (an interrupted run goes
on where it was), and the models that were trained because no bundle of the target exists.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from midiffusion import __version__
from midiffusion.arguments import Arguments
from midiffusion.errors import DependencyMissing, InvalidData, InvalidParameter, UnwritableTarget
from midiffusion.pipeline.options import TranslationOptions

from .baselines.registry import METHODS
from .datasets import DATASETS, Dataset, dataset
from .datasets.subject import chosen
from .filling import Filling, Request, why_not
from .options import add_device, add_model, add_seed, command, require
from .paper import paper_rows
from .predictions import read_predictions
from .report import say, write_json, write_text
from .sheet import Column, check_pillow, shown, write_sheet
from .tabulate import DirectionTable, as_json, csv_text, document

if TYPE_CHECKING:
    from .frechet import FeatureNetwork


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    data = dataset(options.dataset)
    directions = options.directions or _both_ways(data)
    _check(options, directions)
    request = _request(options, data)
    plan = {direction: _methods(options, request, direction) for direction in directions}
    _make_folder(options.out)
    tables: list[DirectionTable] = []
    for direction in directions:
        tables.append(_table(options, request, direction, *plan[direction]))
        # After each direction, so that an interrupted run leaves what it had.
        _write(options.out, request, tables)
    print(document(_title(request), _facts(request), tables), end="")
    say(f"{data.name}: this table, pictures and all figures are in {options.out}", last=True)
    return 0


def _table(
    options: argparse.Namespace,
    request: Request,
    direction: str,
    methods: Sequence[str],
    left_out: dict[str, str],
) -> DirectionTable:
    filling = Filling(request, direction)
    cells = [filling.cell(name) for name in methods]
    rows = shown(filling.subjects)
    pictured = [subject for subject, _ in rows]
    outputs = {name: filling.outputs(name, pictured) for name in methods}
    for name, path in options.predictions:
        outputs[name] = read_predictions(path, filling.subjects)
        cells.append(filling.scored(name, outputs[name]))
    columns = []
    for cell in cells:
        figures = next(iter(cell.figures.values()))
        captions = {s.id: f"all slices: SSIM {figures[s.id]['ssim']:.2f}" for s in pictured}
        columns.append(Column(cell.label, outputs[cell.name], captions))
    sheet = options.out / f"{request.data.name}_{direction.replace(':', '-')}.png"
    write_sheet(sheet, rows, columns, f"{request.data.name} {direction}")
    return DirectionTable(
        request.data.name,
        direction,
        len(filling.subjects),
        cells,
        paper_rows(request.data.name, direction),
        left_out,
        None if request.network is None else request.network.heading,
    )


def _check(options: argparse.Namespace, directions: Sequence[str]) -> None:
    """Raises InvalidParameter for what contradicts itself, before anything is read."""
    require(options, subjects=1, slices=1, steps=1, samples=1, seed=0)
    for folder in (options.data, options.train_data):
        if folder is not None and not folder.is_dir():
            raise InvalidData(f"There is no folder {folder}; give that of {options.dataset}.")
    if options.budget <= 0:
        raise InvalidParameter("--budget must be above 0 seconds.")
    if options.methods == [] and not options.predictions:
        raise InvalidParameter("Nothing to score: give --methods or --predictions.")
    names = [name for name, _ in options.predictions]
    if len({*names, *METHODS}) < len(names) + len(METHODS):
        raise InvalidParameter("--predictions need names of their own, each one once.")
    for name, given in (("--model", options.model), ("--predictions", options.predictions)):
        if given and len(directions) > 1:
            raise InvalidParameter(f"{name} is for one direction: give one with --directions.")
    check_pillow()


def _request(options: argparse.Namespace, data: Dataset) -> Request:
    from midiffusion.diffusion.samplers import SAMPLERS
    from midiffusion.runtime.device import choose_device, describe

    if options.sampler not in SAMPLERS:
        choice = ", ".join(SAMPLERS)
        raise InvalidParameter(f"There is no sampler '{options.sampler}'; choose from {choice}.")
    device = choose_device(options.device)
    sampling = TranslationOptions(
        steps=options.steps,
        samples=options.samples,
        seed=options.seed,
        sampler=options.sampler,
        device=str(device),
    )
    return Request(
        data=data,
        folder=options.data,
        training_folder=options.train_data,
        out=options.out,
        subjects=options.subjects,
        slices=options.slices,
        device=str(device),
        device_text=describe(device),
        budget=options.budget,
        size=options.learn_size,
        seed=options.seed,
        model=options.model,
        model_folder=options.model_folder,
        sampling=sampling,
        network=_network(options.inception, options.device),
    )


def _network(inception: Path | None, device: str) -> FeatureNetwork | None:
    from midiffusion.runtime.device import choose_device

    from .frechet import inception_network, lite_network

    place = choose_device(device)
    if inception is not None:
        return inception_network(inception, place)
    try:
        return lite_network(place)
    except DependencyMissing as error:
        say(f"no Frechet distance: {error}", last=True)
        return None


def _methods(
    options: argparse.Namespace, request: Request, direction: str
) -> tuple[list[str], dict[str, str]]:
    """The methods asked for; by default all that can be had, and why the others can't."""
    chosen(direction, request.data.directions, request.data.name)
    wanted = list(METHODS) if options.methods is None else list(dict.fromkeys(options.methods))
    reasons = {name: why_not(request, name, direction) for name in wanted}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    if left_out and options.methods is not None:
        name, reason = next(iter(left_out.items()))
        raise InvalidParameter(f"{name} can't be had for {direction}: {reason}")
    return [name for name in wanted if name not in left_out], left_out


def _both_ways(data: Dataset) -> list[str]:
    """The first pair of the collection, there and back: those of the paper, where it has them."""
    there = data.directions[0]
    back = ":".join(reversed(there.split(":")))
    return [there, back] if back in data.directions else [there]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableTarget(f"{out} can't be made: {error.strerror or error}.") from error
    if not os.access(out, os.W_OK):
        raise UnwritableTarget(f"{out} may not be written to; name another folder with --out.")


def _write(out: Path, request: Request, tables: Sequence[DirectionTable]) -> None:
    name = request.data.name
    write_text(out / f"{name}.md", document(_title(request), _facts(request), tables))
    write_text(out / f"{name}.csv", csv_text(tables))
    report = {
        "version": __version__,
        "device": request.device_text,
        "dataset": name,
        "sampling": asdict(request.sampling),
        "budget": {"seconds": request.budget, "size": request.size, "seed": request.seed},
        "first_subjects_only": request.subjects,
        "slices_of_each_subject": request.slices,
        "directions": {table.direction: as_json(table) for table in tables},
        "paper": {table.direction: [asdict(row) for row in table.paper] for table in tables},
        "left_out": {table.direction: table.left_out for table in tables},
    }
    write_json(out / f"{name}.json", report)


def _title(request: Request) -> str:
    return f"{request.data.name}: the table"


def _facts(request: Request) -> list[str]:
    how = request.sampling
    steps = "the card's number of" if how.steps is None else str(how.steps)
    smaller = f"; compare these at {request.size} x {request.size} only"
    if request.size >= max(request.data.sizes, default=request.size):
        smaller = ""
    facts = [
        f"midiffusion {__version__} on {request.device_text}",
        f"budget of each method that learns: {request.budget:g} s on slices of {request.size} x "
        f"{request.size} pixels, seed {request.seed}" + smaller,
        f"bundles: {steps} evaluations, {how.samples} sample(s)",
    ]
    if request.subjects is not None:
        facts.append(f"a quick look: the first {request.subjects} subject(s) of either part alone")
    if request.slices is not None:
        facts.append(f"{request.slices} evenly spaced slice(s) of each subject alone are scored")
    return facts


def _prediction(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE.npz")
    return name, Path(file)


def _parser() -> Arguments:
    parser = command("table", __doc__, add_model, add_seed, add_device)
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS, help="collection")
    add("--data", required=True, type=Path, metavar="DIR", help="its folder, or the one round it")
    add("--out", required=True, type=Path, metavar="FOLDER", help="for tables, sheets and cells")
    add(
        "--train-data",
        type=Path,
        metavar="DIR",
        help="folder of the training collection, where that is another (default: beside --data)",
    )
    add(
        "--directions",
        nargs="+",
        metavar="SOURCE:TARGET",
        help="default: the collection's first pair, both ways",
    )
    add("--methods", nargs="*", choices=METHODS, help="default: all")
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
        help="for each method that learns here, and for a model of the target where there is no "
        "bundle (default 600)",
    )
    add(
        "--learn-size",
        type=int,
        choices=(128, 64),
        default=128,
        help="pixels of the slices that those work on; with 64 compare figures at 64 only",
    )
    add("--steps", type=int, default=1, metavar="N", help="network evaluations (default 1: mean)")
    add("--samples", type=int, default=1, metavar="K", help="samples to average (default 1)")
    add("--sampler", default="dpmpp_2m", metavar="NAME", help="default: dpmpp_2m")
    add("--subjects", type=int, metavar="N", help="only the first N of either part: a quick look")
    add("--slices", type=int, metavar="N", help="score N slices of each subject, evenly spaced")
    add("--inception", type=Path, metavar="FILE", help="weights of 2015: makes the distance FID")
    return parser
