"""The real launcher, watched and limited."""

from __future__ import annotations

from pathlib import Path

from MIDiffusionTranslateLib.process import WorkerProcess, launchWorker


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
