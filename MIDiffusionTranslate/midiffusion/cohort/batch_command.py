"""`midiffusion batch IN OUT --to MODEL`: a cohort."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..arguments import Arguments, UsageError
from ..errors import Cancelled
from ..pipeline.option_arguments import add_option_arguments, options_of
from ..runtime import console
from ..runtime.progress import Bar
from .shards import Shard, cpus
from .status import DONE, FAILED, SKIPPED

if TYPE_CHECKING:
    from .batch import Batch, BatchResult
    from .items import Item

MOST_FAILURES = 99  # as an exit code


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the number of failed translations, at most 99."""
    args = _parser().parse_args(argv)
    shard = Shard.parse(args.shard) if args.shard else Shard.of_environment()
    if args.submit:
        from .slurm import submit

        return submit(list(argv), args)
    if args.shards is not None or args.slurm:
        raise UsageError("--shards and --slurm need --submit.")
    from .batch import Batch
    from .items import find_items

    batch = Batch(
        find_items(Path(args.source)),
        args.to,
        Path(args.out),
        options_of(args),
        model_folder=args.model_folder,
        resume=args.resume,
        shard=shard,
    )
    return run(batch, args, args.report)


def run(batch: Batch, args: argparse.Namespace, report: bool = False) -> int:
    """Run a batch with a progress bar; print its summary. Raises Cancelled."""
    import torch

    torch.set_num_threads(args.n_cpus or cpus())
    started = time.monotonic()
    try:
        with _BatchBar(sys.stderr) as bar:
            made = batch.run(bar.show)
    except KeyboardInterrupt:
        raise Cancelled("cancelled; finished results stay, go on with --resume.") from None
    if report:
        from .report import write_report

        console.say(str(write_report(batch.out)))
    return summarise(made, time.monotonic() - started, args.json)


def summarise(made: BatchResult, seconds: float, as_json: bool) -> int:
    """Print what became of a run; returns the exit code."""
    counts = {state: made.count(state) for state in (DONE, SKIPPED, FAILED)}
    if as_json:
        console.say(json.dumps({**counts, "elsewhere": made.elsewhere, "seconds": round(seconds)}))
    else:
        for row in made.rows:
            if row.state == FAILED:
                print(f"failed: {row.item} to {row.model}: {row.error}", file=sys.stderr)
        parts = [f"{counts[DONE]} translated", f"{counts[SKIPPED]} finished before"]
        parts.append(f"{counts[FAILED]} failed")
        if made.elsewhere:
            parts.append(f"{made.elsewhere} volumes under way in another process")
        text = ", ".join(parts)
        console.say(f"{text}; {seconds:.0f} s. Synthetic; research use, not for diagnosis.")
    return min(counts[FAILED], MOST_FAILURES)


def add_options(parser: Arguments, to_required: bool = True) -> None:
    """Arguments that `batch` and `bids` share."""
    add_option_arguments(parser)
    add = parser.add_argument
    add(
        "--to",
        required=to_required,
        default=[],
        action="append",
        metavar="MODEL",
        help="model; may be repeated",
    )
    add("--n-cpus", type=int, metavar="N", help="CPU threads; default: what this process may use")
    add("--shard", metavar="I/N", help="part of the items; default: the task of a Slurm array")
    add("--resume", action="store_true", help="skip results that are finished and verified")
    add("--json", action="store_true", help="print the summary as JSON")


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion batch",
        description="Translate a cohort: models are loaded once, every result is noted in "
        "status.tsv. Research use only, not for diagnosis.",
        epilog="Exit code: the number of failed translations, at most 99.",
    )
    add = parser.add_argument
    add("source", metavar="IN", help="folder of volumes or DICOM series, or a .txt or .tsv list")
    add("out", metavar="OUT", help="folder of the results")
    add_options(parser)
    add("--report", action="store_true", help="write OUT/report.html, pictures and figures")
    add("--submit", choices=("slurm", "local"), help="run as a Slurm array, or here in shards")
    add("--shards", type=int, metavar="N", help="with --submit: tasks of the array (default 8)")
    add("--slurm", action="append", default=[], metavar="KEY=VALUE", help="option of the array")
    return parser


class _BatchBar(Bar):
    """Items done, rate and time left."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._started = time.monotonic()

    def show(self, done: int, of: int, item: Item) -> None:
        """Takes what `Batch.run` reports before every item."""
        text = f"{done + 1} of {of}: {item.name}"
        if done:
            minutes = (time.monotonic() - self._started) / 60
            text += f", {done / minutes:.1f} a minute, {minutes / done * (of - done):.0f} min left"
        self.draw(done / of, text)
