"""From the start of a worker's process to its first event, and to the first progress."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from midiffusion.errors import WorkerDied
from midiffusion.images.volume import Volume

from ..fresh_process import environment, run_fresh

_EVENTS = ("start", "progress", "done")


@dataclass(frozen=True)
class Startup:
    """Seconds from the start of a process, the median of `repeats`.

    python: that does nothing. torch: that imports PyTorch. first_event: the worker's first line,
    which is what a waiting user sees first. first_progress: after the first evaluation of two
    slices, the model loaded. done: with one evaluation, result written.
    """

    repeats: int
    python: float
    torch: float
    first_event: float
    first_progress: float
    done: float


def measure(
    model: str, folder: Path | None, volume: Volume, device: str, threads: int, repeats: int
) -> Startup:
    """Starts the real worker `repeats` times on a small volume. Raises WorkerDied."""
    python = [_python("pass", threads) for _ in range(repeats)]
    torch = [_python("import torch", threads) for _ in range(repeats)]
    events = [_worker(model, folder, volume, device, threads) for _ in range(repeats)]
    medians = [float(np.median([run[name] for run in events])) for name in _EVENTS]
    return Startup(repeats, float(np.median(python)), float(np.median(torch)), *medians)


def _python(code: str, threads: int) -> float:
    start = time.perf_counter()
    run_fresh(["-c", code], threads)
    return time.perf_counter() - start


def _worker(
    model: str, folder: Path | None, volume: Volume, device: str, threads: int
) -> dict[str, float]:
    """Seconds to the first of each of _EVENTS."""
    with tempfile.TemporaryDirectory() as name:
        job = {
            "task": "translate",
            "ijkToRAS": volume.ijkToRAS.tolist(),
            "modality": volume.modality,
            "model": model,
            "model_folder": None if folder is None else str(folder),
            "views": 1,
            "device": device,
        }
        np.save(Path(name) / "source.npy", volume.data)
        (Path(name) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "midiffusion.worker.service", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(threads),
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"run\n")
            process.stdin.flush()
            seen: dict[str, float] = {}
            for line in process.stdout:
                seen.setdefault(json.loads(line)["event"], time.perf_counter() - start)
    if not seen.keys() >= set(_EVENTS):
        raise WorkerDied(f"The worker did not finish its translation (events: {', '.join(seen)}).")
    return seen
