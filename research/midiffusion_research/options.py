"""The options that several benchmark commands share, and what their values may be. Needs no torch.

A command's `_parser` takes the blocks that it needs from here and adds what it alone asks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from midiffusion.arguments import Arguments, device_name
from midiffusion.errors import InvalidParameter

from .datasets import DATASETS

Parser = argparse.ArgumentParser


def command(name: str, text: str | None, *blocks: Callable[[Parser], None]) -> Arguments:
    """The parser of `midiffusion-research NAME` with these blocks, described by the first
    paragraph of `text`."""
    parser = Arguments(
        prog=f"midiffusion-research {name}", description=(text or "").split("\n\n")[0]
    )
    for add_block in blocks:
        add_block(parser)
    return parser


def add_model(parser: Parser, default: str | None = None) -> None:
    """--model and --model-folder; default: an id, or None for the bundle of the target."""
    add = parser.add_argument
    text = f"bundle, by id or folder (default: {default or 'that of the target'})"
    add("--model", default=default, metavar="ID", help=text)
    add("--model-folder", type=Path, metavar="DIR", help="further folder of bundles")


def add_run(parser: Parser, default: str = "tcga-lgg", names: Sequence[str] = DATASETS) -> None:
    """What a `Run` is made of: --dataset, one of `names`, --data, --direction, --device, --json."""
    add = parser.add_argument
    add("--dataset", default=default, choices=names, help=f"collection (default: {default})")
    add("--data", required=True, type=Path, metavar="DIR", help="its folder, or the one round it")
    add("--direction", metavar="SOURCE:TARGET", help="default: the collection's first")
    add_device(parser)
    add_json(parser)


def add_steps(parser: Parser) -> None:
    """--steps of a bundle."""
    add = parser.add_argument
    add("--steps", type=int, default=1, metavar="N", help="network evaluations (default 1: mean)")


def add_seed(parser: Parser) -> None:
    """--seed."""
    parser.add_argument("--seed", type=int, default=0, metavar="S")


def add_device(parser: Parser) -> None:
    """--device."""
    add = parser.add_argument
    add("--device", default="auto", type=device_name, help="auto, cuda[:i], mps or cpu")


def add_json(parser: Parser) -> None:
    """--json."""
    add = parser.add_argument
    add("--json", type=Path, metavar="OUT", help="keep every figure here, with the device's name")


def require(options: argparse.Namespace, **least: float) -> None:
    """Raises InvalidParameter where a value of the option of this name is below its least; what
    was not given may stay so."""
    for name, limit in least.items():
        given = getattr(options, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value < limit:
                raise InvalidParameter(f"--{name.replace('_', '-')} must be at least {limit}.")
