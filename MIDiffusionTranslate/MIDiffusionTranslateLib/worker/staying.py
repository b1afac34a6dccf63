"""The worker process that stays between jobs, with PyTorch and the model loaded."""

from __future__ import annotations

from collections.abc import Hashable

from .worker_process import WorkerProcess


class StayingWorker:
    """Holds at most one idle worker.

    A worker is used again only for the same key: the model, the device and the launcher. The worker
    ends itself when it has been idle for the time that its last job named.
    """

    def __init__(self) -> None:
        self._process: WorkerProcess | None = None
        self._key: Hashable = None

    @property
    def pid(self) -> int | None:
        """Of the idle worker; None if there is none."""
        return None if self._process is None else self._process.pid

    def take(self, key: Hashable) -> WorkerProcess | None:
        """The idle worker if it was kept for this key and lives; ends it otherwise."""
        if self._process is None or self._key != key or self._process.exited():
            self.end()
            return None
        process, self._process = self._process, None
        return process

    def keep(self, process: WorkerProcess, key: Hashable) -> None:
        """Keeps a worker whose job is done."""
        self.end()
        self._process, self._key = process, key

    def end(self) -> None:
        """Ends the idle worker at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(1.0)
            process.close()
