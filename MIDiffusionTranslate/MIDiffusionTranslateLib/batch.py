"""Many translations, one after the other, each in a worker process of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from midiffusion.errors import Cancelled, MIDiffusionError

from .job import WorkerJob, call
from .workerreport import WorkerProgress

OnProgress = Callable[[WorkerProgress], object]
OnDone = Callable[[Any], object]


class Starter(Protocol):
    """Begins the translation of one item; raises MIDiffusionError when it can't."""

    def __call__(self, onProgress: OnProgress, onDone: OnDone) -> WorkerJob: ...


@dataclass
class BatchItem:
    """One volume of a batch, and what became of it.

    state: waiting, running, done, failed, cancelled. result: name of the volume or of the file
    made. node: the volume, where it is one of the scene. agreement: its median with the source.
    message: what was wrong, or a warning.
    """

    name: str
    begin: Starter
    state: str = "waiting"
    result: str = ""
    node: Any = None
    agreement: float | None = None
    seconds: float | None = None
    message: str = ""


class Batch:
    """Runs the items in order. What fails is noted and the next begins; what is finished stays.

    It moves forward by itself where jobs are polled by an event loop, and by `poll` elsewhere.

    Args:
        items: not empty.
        onProgress: called with the batch when something has changed; `current` and `progress` say
            what.
        onDone: called once with the batch.
    """

    def __init__(
        self,
        items: Sequence[BatchItem],
        onProgress: Callable[[Batch], object] | None = None,
        onDone: Callable[[Batch], object] | None = None,
    ) -> None:
        self.items = list(items)
        self.current: BatchItem | None = None
        self.progress: WorkerProgress | None = None
        self.finished = False
        self.table: Any = None  # of the summary, once it is made
        self._onProgress, self._onDone = onProgress, onDone
        self._job: WorkerJob | None = None
        self._stopping = False
        self._since = 0.0

    @property
    def cancelling(self) -> bool:
        return self._stopping and not self.finished

    def count(self, state: str) -> int:
        """How many items are in this state."""
        return sum(item.state == state for item in self.items)

    def start(self) -> None:
        self._go()

    def poll(self) -> None:
        """As WorkerJob.poll, for the item under way."""
        if self._job is not None:
            self._job.poll()

    def cancel(self) -> None:
        """Ask for the end: of the item under way, and of what waits."""
        self._stopping = True
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """End at once, for good."""
        self._stopping = True
        if self._job is not None:
            self._job.abandon()

    def _go(self) -> None:
        """Begin items until one is under way or none is left."""
        for item in self.items:
            if self._stopping:
                break
            if item.state != "waiting":
                continue
            self.current, self.progress, self._since = item, None, time.monotonic()
            item.state = "running"
            call(self._onProgress, self)
            try:
                job = item.begin(self._heard, self._ended)
            except MIDiffusionError as error:
                self._note("failed", str(error))
            except Exception as error:
                logging.exception("MIDiffusion: an item of the batch could not start")
                self._note("failed", f"It could not start ({error}).")
            else:
                if not job.finished:
                    self._job = job
                    return
        self._finish()

    def _heard(self, progress: WorkerProgress) -> None:
        self.progress = progress
        call(self._onProgress, self)

    def _ended(self, job: Any) -> None:
        item = self.current
        assert item is not None
        if isinstance(job.error, Cancelled):
            self._stopping = True  # whoever ended one (a scene that is closed) means all
            self._note("cancelled", "")
        elif job.error is not None:
            self._note("failed", str(job.error))
        else:
            item.node = getattr(job, "node", None)
            provenance = job.provenance if item.node is not None else job.result["provenance"]
            item.result = job.result["output"] if item.node is None else item.node.GetName()
            item.agreement = provenance.get("agreement")
            self._note("done", " ".join(job.warnings))
        if job is self._job:  # else it ended while it was begun, and _go goes on
            self._job = None
            self._go()

    def _note(self, state: str, message: str) -> None:
        assert self.current is not None
        self.current.state, self.current.message = state, message
        self.current.seconds = time.monotonic() - self._since
        call(self._onProgress, self)

    def _finish(self) -> None:
        for item in self.items:
            if item.state == "waiting":
                item.state = "cancelled"
        self.current, self.finished = None, True
        call(self._onDone, self)
