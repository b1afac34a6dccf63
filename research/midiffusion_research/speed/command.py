"""`midiffusion-research speed`: where the time of a translation goes, and how it grows.

Four parts, each of which can be asked for alone:

- evaluation: one evaluation of the backbone, the share of LMI in it, and the rate of the network
  against that of the fastest matrix product of the same device in the same run;
- volume: a whole volume with the default options, by steps of the pipeline;
- growth: time and memory of volumes of more and of larger slices, each in a process of its own;
- startup: the real worker process, from its start to its first event.

The volume is a phantom: what it shows does not change what is computed. Prints tables on stdout,
progress on stderr; `--json` keeps the figures and names device, threads and PyTorch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from midiffusion import __version__
from midiffusion.arguments import Arguments
from midiffusion.pipeline.target import TargetModel, load_model
from midiffusion.runtime.device import choose_device, describe
from midiffusion.runtime.precision import network_dtype

from ..fresh_process import run_fresh
from ..options import add_device, add_json, add_model, require
from ..report import write_json
from . import evaluation, growth, startup, volume
from .tables import markdown
from .timing import phantom

PARTS = ("evaluation", "volume", "growth", "startup")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, slices=2, size=64, repeats=1, growth_slices=2, growth_sizes=64, threads=1)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    model = load_model(options.model, options.model_folder)
    if options.point is not None:
        slices, size = options.point
        print(json.dumps(asdict(growth.point(model, device, slices, size))))
        return 0
    report: dict[str, Any] = {
        "benchmark": "speed",
        "version": __version__,
        "device": describe(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": str(network_dtype(device)).removeprefix("torch."),
        "model": model.card.id,
        "backbone_sha256": model.card.backbone_sha256,
        "note": options.note,
    }
    for part in options.parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        report[part] = _measured(part, model, device, options)
    print(markdown([report]))
    if options.json is not None:
        write_json(options.json, report)
    return 0


def _parser() -> Arguments:
    parser = Arguments(prog="midiffusion-research speed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_model(parser, "flair")
    add_device(parser)
    add_json(parser)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    add("--threads", type=int, metavar="N", help="of the CPU (default: PyTorch's choice)")
    add("--slices", type=int, default=160, metavar="N", help="of the volume (default 160)")
    add("--size", type=int, default=128, metavar="N", help="its pixels a side (default 128)")
    add("--growth-slices", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512], metavar="N")
    add("--growth-sizes", type=int, nargs="+", default=[64, 128, 256, 512], metavar="N")
    add("--repeats", type=int, default=5, metavar="N", help="of what is short (default 5)")
    add("--note", default="", metavar="TEXT", help="what a reader of the figures must know")
    add("--point", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser


def _measured(
    part: str, model: TargetModel, device: torch.device, options: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one part, JSON types only."""
    if part == "evaluation":
        found = evaluation.measure(model, device, options.size, options.repeats)
        names = ("lmi_share", "utilisation", "utilisation_float32")
        return {**asdict(found), **{name: getattr(found, name) for name in names}}
    if part == "volume":
        return asdict(volume.measure(model, device, options.slices, options.size))
    if part == "growth":
        return _growth(device, options)
    small = phantom(2, 64, model.card.pixel_mm)
    arguments = (options.model, options.model_folder, small, str(device))
    return asdict(startup.measure(*arguments, torch.get_num_threads(), options.repeats))


def _growth(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    few, usual = min(options.growth_slices), options.size
    axes = {
        "slices": [(slices, usual) for slices in sorted(set(options.growth_slices))],
        "size": [(few, size) for size in sorted(set(options.growth_sizes))],
    }
    report: dict[str, Any] = {"views": growth.VIEWS}
    for axis, places in axes.items():
        points = [_apart(place, device, options) for place in places]
        along = [getattr(found, axis) for found in points]
        report[axis] = {
            "points": [asdict(found) for found in points],
            "time_exponent": growth.exponent(along, [found.seconds for found in points]),
            "memory_exponent": growth.exponent(along, [found.memory_bytes for found in points]),
        }
    along_slices = [growth.Point(**found) for found in report["slices"]["points"]]
    report["bytes_per_slice"] = growth.per_slice(
        [found.slices for found in along_slices], [found.memory_bytes for found in along_slices]
    )
    return report


def _apart(
    place: tuple[int, int], device: torch.device, options: argparse.Namespace
) -> growth.Point:
    print(f"  {place[0]} slices of {place[1]}", file=sys.stderr, flush=True)
    threads = torch.get_num_threads()
    command = ["-m", "midiffusion_research", "speed", "--point", *map(str, place)]
    command += ["--model", str(options.model), "--device", str(device), "--threads", str(threads)]
    if options.model_folder is not None:
        command += ["--model-folder", str(options.model_folder)]
    return growth.read_point(run_fresh(command, threads))
