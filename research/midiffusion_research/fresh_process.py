"""Measuring in a fresh process: where memory, and what is loaded, must start from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from midiffusion.errors import WorkerDied

_RESET = Path("/proc/self/clear_refs")


def environment(threads: int | None = None) -> dict[str, str]:
    """This process's environment, in which Python finds this very library; with that many threads
    for the computations of one process, if given."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return found if threads is None else {**found, "OMP_NUM_THREADS": str(threads)}


def run_fresh(arguments: Sequence[str], threads: int | None = None) -> str:
    """Standard output of a fresh `python` with these arguments. Raises WorkerDied."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(threads)
    )
    if done.returncode:
        raise WorkerDied(f"The process that measures failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def memory_rise(compute: Callable[[], object], device: str) -> int | None:
    """How far memory rises over its present state while `compute` runs, bytes: of the device on
    CUDA, of this process elsewhere; None where this system can't tell."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        idle = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        compute()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - idle
    if not _RESET.exists():
        compute()
        return None
    _RESET.write_text("5")  # the peak starts again from here
    idle = _status("VmRSS")
    compute()
    return _status("VmHWM") - idle


def _status(field: str) -> int:
    """A field of this process's status, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)
