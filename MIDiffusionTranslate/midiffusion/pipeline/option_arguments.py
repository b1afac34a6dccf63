"""`TranslationOptions` as arguments of a command: `translate`, `batch` and `bids` share them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import device_name
from .options import MOST_VIEWS, SOURCE_KINDS, TranslationOptions


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an argument for each option, and the folder of models."""
    add = parser.add_argument
    add("--from", dest="source_kind", default="auto", choices=SOURCE_KINDS, help="kind of source")
    add("--views", type=int, default=MOST_VIEWS, metavar="N", help="views to average (default 4)")
    add("--steps", type=int, default=1, metavar="N", help="1: the mean; from 2 on: diffusion steps")
    add("--samples", type=int, default=1, metavar="K", help="samples to average (default 1)")
    add("--seed", type=int, default=0, metavar="S", help="seed of the noise (default 0)")
    add("--without", action="append", default=[], metavar="STEP", help="leave out a pipeline step")
    add("--device", default="auto", type=device_name, help="auto (default), cuda[:i], mps or cpu")
    add("--model-folder", metavar="DIR", type=Path, help="folder with more models")


def options_of(args: argparse.Namespace) -> TranslationOptions:
    """The options that the arguments name. Raises InvalidParameter."""
    return TranslationOptions.from_dict({**vars(args), "source": args.source_kind})
