"""The real launcher, watched and limited; workers that prepare something first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from MIDiffusionTranslateLib.worker.worker_process import WorkerProcess, launchWorker

LIBRARY = Path(__file__).parents[2] / "MIDiffusionTranslate"


def launchScript(folder: Path, script: str, *arguments: object) -> WorkerProcess:
    """A worker that runs `script` first: its arguments are the job's folder and `arguments`."""
    return WorkerProcess(
        [sys.executable, "-c", script, str(folder), *map(str, arguments)],
        {**os.environ, "PYTHONPATH": str(LIBRARY)},
        folder,
    )


class Spy:
    """A launcher that remembers what it started, and can put limits on it."""

    def __init__(self, **limits: int) -> None:
        self.processes: list[WorkerProcess] = []
        self._limits = limits

    def __call__(self, folder: Path) -> WorkerProcess:
        self.processes.append(launchWorker(folder, self._limit if self._limits else None))
        return self.processes[-1]

    def _limit(self) -> None:
        import resource  # POSIX only

        for name, value in self._limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    @property
    def pid(self) -> int:
        return self.processes[-1].pid
