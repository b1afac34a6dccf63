"""A cohort against a shell loop of single translations, memory over the run, and kills.

    midiffusion-research cohort --out FILE.json [--subjects 60] [--slices 40] [--kills 10]

Speed: items per minute of `midiffusion batch` and of `midiffusion translate` called for each
volume, both as child processes on the same volumes; the loop runs on every tenth. Kills: a batch
gets SIGKILL at random moments and is started again with --resume until it has ended by itself; then
every result is verified, and every done line counted.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from midiffusion.arguments import Arguments
from midiffusion.cohort.items import find_items
from midiffusion.cohort.results import is_finished, read_sidecar
from midiffusion.cohort.status import DONE, read_status
from midiffusion.images.io import read_volume, write_volume
from midiffusion.runtime.device import describe

from .study_data import HEAD, subjects

_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
REQUESTED = ("SourceSHA256", "Model", "ModelSHA256", "BackboneSHA256", "Options")


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "midiffusion", *map(str, words)]


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


def speed(cohort: Path, out: Path) -> dict[str, Any]:
    """Items per minute of both ways, and the batch's memory after a tenth and at its end."""
    sources = [item.source for item in find_items(cohort)]
    started = time.monotonic()
    chosen = sources[::10]
    for source in chosen:
        words = ("translate", source, "--to", "t1", "-o", out / source.name, "--device", "cpu")
        subprocess.run(_command(*words), check=True, capture_output=True)
    loop = 60 * len(chosen) / (time.monotonic() - started)
    started, memory = time.monotonic(), []
    command = _command("batch", cohort, out / "batch", "--to", "t1", "--device", "cpu")
    process = subprocess.Popen(command, **_QUIET)
    while process.poll() is None:
        try:
            done = len(read_status(out / "batch")) if (out / "batch").is_dir() else 0
            memory.append((done, _resident_mb(process.pid)))
        except (OSError, ValueError, IndexError):
            break
        time.sleep(0.5)
    if process.wait() != 0:
        raise RuntimeError("the batch failed")
    batch = 60 * len(sources) / (time.monotonic() - started)
    early = max(mb for done, mb in memory if done <= max(1, len(sources) // 10))
    return {
        "loop_items_a_minute": round(loop, 1),
        "batch_items_a_minute": round(batch, 1),
        "ratio": round(batch / loop, 2),
        "memory_mb_first_tenth": round(early),
        "memory_mb_most": round(max(mb for _, mb in memory)),
    }


def kills(cohort: Path, out: Path, count: int, seconds: float) -> dict[str, Any]:
    """SIGKILL at random moments of a run of about `seconds`."""
    chance = random.Random(0)
    words = _command("batch", cohort, out, "--to", "t1", "--device", "cpu", "--resume")
    killed = 0
    while True:
        process = subprocess.Popen(words, **_QUIET)
        try:
            limit = 3 + chance.uniform(0, seconds / 2) if killed < count else None
            process.wait(timeout=limit)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    verified, lines = 0, Counter[str]()
    for item in find_items(cohort):
        result = item.result(out, "t1")
        sidecar = read_sidecar(result) or {}
        requested = {key: sidecar.get(key) for key in REQUESTED}
        verified += bool(sidecar) and is_finished(result, requested)
    for line in (out / "status.tsv").read_text("utf-8").splitlines()[1:]:
        fields = line.split("\t")
        lines[fields[0]] += fields[4] == DONE
    return {
        "kills": killed,
        "items": len(find_items(cohort)),
        "verified": verified,
        "done_twice": sum(n > 1 for n in lines.values()),
        "parts_left": len(list(out.rglob("*.part*"))),
    }


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research cohort", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--subjects", type=int, default=60, metavar="N")
    parser.add_argument("--slices", type=int, default=40, metavar="N")
    parser.add_argument("--kills", type=int, default=10, metavar="N")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = folder / "in"
        cohort.mkdir()
        head = read_volume(HEAD)
        for number, volume in enumerate(subjects(head, options.subjects, options.slices)):
            write_volume(cohort / f"volume{number:03}.nii.gz", volume)
        measured = speed(cohort, folder)
        seconds = 60 * options.subjects / measured["batch_items_a_minute"]
        document = {
            "device": describe(torch.device("cpu")),
            "volumes": options.subjects,
            "slices": options.slices,
            **measured,
            **kills(cohort, folder / "killed", options.kills, seconds / 3),
        }
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))
    return 0
