"""One task in a worker process, seen from the application.

`WorkerJob` starts the worker, reads its events and ends it. It never blocks: the application calls
`poll()` regularly (a QTimer in Slicer, a loop in a script), always on the main thread, and every
callback runs inside that call. It knows no MRML: its `load` function turns a result into nodes.

With a `StayingWorker` a job uses an idle worker again if there is one for its key, and leaves the
worker idle when it has succeeded. After any failure or cancel the worker ends.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from midiffusion.errors import Cancelled, MIDiffusionError, WorkerDied
from midiffusion.runtime import memory

from .folder import JobFolder
from .staying import StayingWorker
from .worker_process import Launcher, WorkerProcess, launchWorker

RUNNING_STATES = ("preparing", "running", "cancelling", "loading")
_LOG_LINES = 500
IDLE_S = 300.0  # after which an idle worker ends itself
GRACE_S = 2.5  # a little more than the worker allows itself


class WorkerJob:
    """Runs one worker. States: idle, preparing, running, cancelling, loading, done, failed,
    cancelled.

    Args:
        task: what the worker is to do, one of `midiffusion.worker.tasks.NAMES`.
        parameters: the task's fields of job.json.
        arrays: volumes for the worker, [k, j, i], by name; they must not change while the job is
            preparing.
        load: called with the fields of the "done" event and the job's folder, which goes away
            afterwards; what it returns is `result`.
        onDone: called once with the job when it is done, failed or cancelled.
        onEvent: called with the kind and the fields of every other event of the task.
        name: what the task is called in a sentence.
        launcher: starts the process.
        temporaryFolder: where the job's folder is made; the system's by default.
        silence_s: time without a sign of life after which the worker counts as hanging.
        grace_s: time the worker gets to end by itself; it takes no more than it needs.
        staying: holds the idle worker; None: a worker of the job's own, which ends with it.
        key: what an idle worker must have been kept for.
    """

    def __init__(
        self,
        task: str,
        parameters: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        load: Callable[[dict[str, Any], JobFolder], Any] = lambda done, _: done,
        onDone: Callable[[Any], object] | None = None,
        onEvent: Callable[[str, dict[str, Any]], object] | None = None,
        *,
        name: str = "translation",
        launcher: Launcher = launchWorker,
        temporaryFolder: str | Path | None = None,
        silence_s: float = 300.0,
        grace_s: float = GRACE_S,
        staying: StayingWorker | None = None,
        key: Hashable = None,
    ) -> None:
        self.state = "idle"
        self.result: Any = None
        self.error: MIDiffusionError | None = None
        self.warnings: list[str] = []
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.elapsed_s = 0.0
        self._arrays = dict(arrays)
        self._volumeBytes = sum(int(data.nbytes) for data in arrays.values())
        self._usedBytes: int | None = None
        self._parameters = {**parameters, "task": task}
        self._staying, self._key = staying, (key, launcher)
        if staying is not None:
            self._parameters["stay_s"] = IDLE_S
        self._reused = False  # the worker is not new, and has not answered yet
        self._load, self._onDone, self._onEvent = load, onDone, onEvent
        self._name = name
        self._launcher, self._temporaryFolder = launcher, temporaryFolder
        self.silence_s, self._grace_s = silence_s, grace_s
        self._folder: JobFolder | None = None
        self._process: WorkerProcess | None = None
        self._done: dict[str, Any] | None = None
        self._started = self._polled = 0.0
        self._silent_s = 0.0
        self._killAt: float | None = None
        self._polling = False

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def start(self) -> None:
        """Begin. A failure to begin is reported as any other: state failed, `error`, onDone."""
        if self.state != "idle":
            raise RuntimeError("A job can be started once.")
        self.state = "preparing"
        self._started = self._polled = time.monotonic()
        self.poll()

    def poll(self) -> str:
        """Do what can be done without waiting; returns the state."""
        if self._polling or self.state not in RUNNING_STATES:
            return self.state  # the first: a callback of ours let the event loop run
        self._polling = True
        try:
            if self.state == "preparing":
                self._prepare()
            elif self.state == "loading":
                self._finish(*self._loaded())
            else:
                self._watch()
        finally:
            self._polling = False
        return self.state

    def cancel(self) -> None:
        """Ask for the end. It has come when the state is cancelled; keep polling until then."""
        if self.state == "preparing" or (self.state == "loading" and not self._polling):
            self._finish("cancelled", self._cancellation())
        elif self.state == "running":
            self.state = "cancelling"
            self._askToEnd()

    def abandon(self) -> None:
        """End at once, for good: the application or the module goes away."""
        if self.state in RUNNING_STATES:
            if self._process is not None:
                self._process.kill()
                self._process.wait(GRACE_S)
            self._finish("cancelled", self._cancellation())

    # preparing

    def _prepare(self) -> None:
        try:
            if self._folder is None:
                self._folder = JobFolder(self._temporaryFolder)
                self._folder.writeJob(self._parameters)
            for name, data in [*self._arrays.items()][:1]:
                if self._folder.writeArray(name, data):
                    del self._arrays[name]
            if not self._arrays:
                self._startWorker(self._folder)
                self.state = "running"
        except Exception as error:
            self._finish("failed", self._errorFor(error, f"The {self._name} could not be prepared"))

    def _startWorker(self, folder: JobFolder) -> None:
        process = None if self._staying is None else self._staying.take(self._key)
        self._reused = process is not None
        if process is not None:
            process.request(folder.path)
        self._process = process or self._launcher(folder.path)

    # running

    def _watch(self) -> None:
        assert self._process is not None
        now = time.monotonic()
        # A dialog or a sleeping computer may keep us from polling: only time that we saw counts.
        self._silent_s += min(now - self._polled, 1.0)
        self._polled = now
        for line in self._process.outputLines():
            self._silent_s = 0.0
            self._handle(line)
        self.log.extend(self._process.errorLines())
        if self._process.ended():
            self._workerEnded()
        elif self.state == "running" and self._done is not None and self._done.get("stays"):
            self.state = "loading"  # shown for one turn; the next poll loads
        elif self._killAt is not None:
            if now >= self._killAt:
                self._process.kill()
        elif self._silent_s > self.silence_s:
            self.error = WorkerDied(
                f"The {self._name} gave no sign of life for {self.silence_s:.0f} s and was ended: "
                "try again, with another device if it happens again."
            )
            self._process.kill()
            self._askToEnd()

    def _handle(self, line: str) -> None:
        try:
            event = json.loads(line)
            self._obey(event["event"], event)
        except Exception:  # not an event, or not one of ours
            self.log.append(line)

    def _obey(self, kind: str, event: dict[str, Any]) -> None:
        self._reused = False
        if kind == "warning":
            self.warnings.append(str(event["message"]))
        elif kind == "error":
            self.error = _errorOf(event["code"], event["message"])
            self._askToEnd()
        elif kind == "done":
            self._done = event
            if not event.get("stays") or self.state != "running":
                self._askToEnd()
        elif self.state == "running" and self._onEvent is not None:
            self._onEvent(kind, event)

    def takeFile(self, name: str) -> np.ndarray:
        """The array of a file that an event names; the file is removed. Raises OSError and
        ValueError."""
        assert self._folder is not None
        return self._folder.take(name)

    def _askToEnd(self) -> None:
        """Tell the worker to end, and give it until `_killAt`."""
        assert self._process is not None and self._folder is not None
        self._killAt = time.monotonic() + self._grace_s
        self._folder.requestCancel()
        self._process.closeInput()

    # the end

    def _workerEnded(self) -> None:
        assert self._process is not None
        if self.state == "cancelling" or isinstance(self.error, Cancelled):
            self._finish("cancelled", self._cancellation())
        elif self._done is not None:
            self.state = "loading"  # shown for one turn; the next poll loads
        elif self._reused and self.error is None:
            self._restart()
        else:
            death = self._process.death(self.log, self._volumeBytes, self._usedBytes, self._name)
            self._finish("failed", self.error or death)

    def _restart(self) -> None:
        """The idle worker ended before it took the job: a new one does it."""
        assert self._process is not None and self._folder is not None
        self._process.close()
        self._process = None
        try:
            self._startWorker(self._folder)
        except Exception as error:
            self._finish("failed", self._errorFor(error, f"The {self._name} could not be started"))

    def _loaded(self) -> tuple[str, MIDiffusionError | None]:
        assert self._done is not None and self._folder is not None
        try:
            self.result = self._load(self._done, self._folder)
        except Exception as error:
            return "failed", self._errorFor(error, "The result could not be added to the scene")
        return "done", None

    def _cancellation(self) -> Cancelled:
        return Cancelled(f"The {self._name} was cancelled.")

    def _errorFor(self, failure: Exception, what: str) -> MIDiffusionError:
        """The error to report for a failure on our side; `what` begins its sentence."""
        if isinstance(failure, MIDiffusionError):
            return failure
        if isinstance(failure, MemoryError):
            return memory.shortage(self._volumeBytes, memory.peak_bytes())
        logging.error("MIDiffusion: %s", what, exc_info=failure)
        return _errorOf("internal", f"{what} ({failure}).")

    def _finish(self, state: str, error: MIDiffusionError | None) -> None:
        process, self._process = self._process, None
        if process is not None:
            stays = self._done is not None and self._done.get("stays") and not process.exited()
            if stays and state == "done" and self._staying is not None:
                self._staying.keep(process, self._key)
            else:
                if not process.exited():
                    process.kill()
                    process.wait(GRACE_S)
                process.close()
        if self._folder is not None:
            self._folder.remove()
        self._arrays.clear()
        self.state, self.error = state, error
        self.elapsed_s = time.monotonic() - self._started
        if state == "failed":
            lines = "".join(f"\n  {line}" for line in self.log)
            logging.error("MIDiffusion: the %s failed: %s%s", self._name, error, lines)
        onDone, self._onDone = self._onDone, None
        call(onDone, self)
        self._onEvent, self._load = None, _nothing  # and with them what they hold


def _nothing(done: dict[str, Any], folder: JobFolder) -> None:
    """Stands in for `load` once a job has ended."""


def _errorOf(code: str, message: str) -> MIDiffusionError:
    """The error that an event describes; codes of no class keep their code."""
    classes = {kind.code: kind for kind in MIDiffusionError.__subclasses__()}
    error = classes.get(code, MIDiffusionError)(message)
    error.code = code
    return error


def call(callback: Callable[[Any], object] | None, argument: object) -> None:
    """Call back; what a listener does wrong must not leave a process behind."""
    if callback is None:
        return
    try:
        callback(argument)
    except Exception:
        logging.exception("MIDiffusion: a callback failed")
