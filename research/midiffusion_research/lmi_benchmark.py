"""`midiffusion-research lmi`: time and memory of the LMI layer against its definition.

The yardstick is `published_definition`: unfold, the joint density of all pixels of one slice
in float32, with as many threads as the layer: one unless asked otherwise, so that a ratio compares
work and not how the two sides fare on cores that others use too. Every row first checks that the
layer's output is that of its own estimator's definition, then times both in turns and keeps the
best of each, so that whatever else the machine does hits both. A ratio is always over the parity
mode's definition (nine windows), which is what the published method pays.

Memory is the rise of a fresh process over its idle state (code loaded, images there, a 24 x 24
part of them already worked through), for both sides alike.

Prints a table on stdout; `--json` keeps the figures and names the device.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from midiffusion import __version__
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidParameter
from midiffusion.lmi import LocalMutualInformation
from midiffusion.lmi.definition import definition
from midiffusion.lmi.layer import Search
from midiffusion.runtime.device import choose_device, describe
from torch import Tensor

from .fresh_process import memory_rise, run_fresh
from .options import add_json, require
from .published_definition import published_definition
from .published_lmi import published_lmi
from .report import write_json
from .speed.tables import lmi_table

_SLICES = Path(__file__).parents[1] / "tests/data/lmi_reference.npz"
_BASELINE = "definition"

Images = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """One use of the layer."""

    estimator: Literal["published", "kde"]
    search: Search
    images: str = "slices"

    @property
    def name(self) -> str:
        """As in the table."""
        searched = {"shift": "9 windows" if self.estimator == "published" else "9 shifts"}
        return f"{self.estimator}, {searched.get(self.search, 'centre only')}"


CASES = (
    Case("published", "shift"),
    Case("published", "shift", "noise"),
    Case("kde", "shift"),
    Case("kde", "none"),
)


# Bytes: one image. A smaller rise says that memory was there already, not that none was needed.
_LEAST_RISE = 1 << 16


@dataclass(frozen=True)
class Row:
    """One line of the table.

    seconds, baseline_seconds: best of the repeats, this case and the parity definition.
    own_difference: largest difference to the definition of its own estimator.
    memory_bytes, baseline_memory_bytes: rise over idle, None where it can't be measured.
    """

    case: str
    images: str
    seconds: float
    baseline_seconds: float
    own_difference: float
    memory_bytes: int | None
    baseline_memory_bytes: int | None

    @property
    def faster(self) -> float:
        """How many times faster than the parity definition."""
        return self.baseline_seconds / self.seconds

    @property
    def smaller(self) -> float | None:
        """How many times less memory than the parity definition; None where that can't be told."""
        if self.memory_bytes is None or self.baseline_memory_bytes is None:
            return None
        if self.memory_bytes < _LEAST_RISE:
            return None
        return self.baseline_memory_bytes / self.memory_bytes


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, size=24, repeats=1, threads=1)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InvalidParameter("--device cuda needs a CUDA device, and PyTorch finds none.")
    torch.set_num_threads(options.threads)
    if options.memory_of is not None:
        number, baseline = options.memory_of.split(":")
        print(_memory(CASES[int(number)], baseline == _BASELINE, options.size, options.device))
        return 0
    rows = []
    for number in range(len(CASES)):
        rows.append(_measure(number, options))
        print(f"{CASES[number].name} ({CASES[number].images}) done", file=sys.stderr)
    report = {
        "benchmark": "lmi",
        "version": __version__,
        "device": describe(choose_device(options.device)),
        "threads": options.threads,
        "torch": torch.__version__,
        "size": options.size,
        "repeats": options.repeats,
        "rows": [asdict(row) | {"faster": row.faster, "smaller": row.smaller} for row in rows],
    }
    print(f"LMI of one {options.size} x {options.size} slice, float32\n\n{lmi_table([report])}")
    if options.json is not None:
        write_json(options.json, report)
    return 0


def _parser() -> Arguments:
    parser = Arguments(prog="midiffusion benchmark lmi", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_json(parser)
    add = parser.add_argument
    add("--size", type=int, default=128, metavar="N", help="side of the slice (default 128)")
    add("--repeats", type=int, default=5, metavar="N", help="times each is run (default 5)")
    add("--threads", type=int, default=1, metavar="N", help="for both sides (default 1)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--memory-of", help=argparse.SUPPRESS)
    return parser


def _images(kind: str, size: int, device: str) -> Images:
    """Two images [1, 1, size, size] in [0, 1]: real slices where there are some, or noise."""
    if kind == "noise" or not _SLICES.exists():
        generator = torch.Generator().manual_seed(0)
        u, v = torch.rand(2, 1, 1, size, size, generator=generator)
    else:
        with np.load(_SLICES) as data:
            pair = [data[name].astype(np.float32) / 255 for name in ("t1_0", "flair_0")]
        repeats = -(-size // pair[0].shape[0])
        u, v = (
            torch.from_numpy(np.tile(x, (repeats, repeats))[:size, :size].copy())[None, None]
            for x in pair
        )
    return u.to(device), v.to(device)


def _baseline(u: Tensor, v: Tensor) -> Tensor:
    return published_definition(u[0, 0], v[0, 0])


def _own_definition(case: Case, u: Tensor, v: Tensor) -> Tensor:
    if case.estimator == "published":
        return _baseline(u, v)
    return definition(u[0, 0], v[0, 0], search=case.search)


def _layer(case: Case) -> Callable[[Tensor, Tensor], Tensor]:
    if case.estimator == "published":
        return published_lmi
    return LocalMutualInformation(search=case.search)


def _seconds(compute: Callable[[], Tensor], device: str) -> float:
    start = time.perf_counter()
    compute()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def _measure(number: int, options: argparse.Namespace) -> Row:
    case = CASES[number]
    u, v = _images(case.images, options.size, options.device)
    layer = _layer(case)
    difference = float((layer(u, v)[0, 0] - _own_definition(case, u, v)).abs().max())
    ours, theirs = [], []
    for _ in range(options.repeats):
        ours.append(_seconds(lambda: layer(u, v), options.device))
        theirs.append(_seconds(lambda: _baseline(u, v), options.device))
    memory = [_memory_apart(f"{number}:{side}", options) for side in ("layer", _BASELINE)]
    return Row(case.name, case.images, min(ours), min(theirs), difference, *memory)


def _memory_apart(what: str, options: argparse.Namespace) -> int | None:
    """Rise of memory in a fresh process, bytes."""
    command = ["-m", "midiffusion_research", "lmi", "--memory-of", what]
    command += [f"--{name}={getattr(options, name)}" for name in ("size", "threads", "device")]
    rise: int | None = json.loads(run_fresh(command))["rise"]
    return rise


@torch.no_grad()
def _memory(case: Case, baseline: bool, size: int, device: str) -> str:
    """Rise of peak over idle, as JSON: bytes, or null where this system can't tell."""
    u, v = _images(case.images, size, device)
    layer = _layer(case)
    compute = _baseline if baseline else layer
    middle = slice(size // 2 - 12, size // 2 + 12)
    compute(u[..., middle, middle].contiguous(), v[..., middle, middle].contiguous())
    return json.dumps({"rise": memory_rise(lambda: compute(u, v), device)})
