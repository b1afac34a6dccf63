"""One translation in a worker process, seen from the application.

`TranslationJob` starts the worker, reads its events and ends it. It never blocks: somebody calls
`poll()` every now and then (a QTimer in Slicer, a loop in a script), always on the main thread, and
every callback runs inside that call. It knows no MRML: what a finished result is turned into is the
business of the `load` function it is given.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from midiffusion import memory
from midiffusion.errors import Cancelled, MIDiffusionError, WorkerDied
from midiffusion.volume import Volume

from .jobfolder import JobFolder
from .process import Launcher, WorkerProcess, launchWorker
from .workerreport import WorkerProgress, WorkerResult

RUNNING_STATES = ("preparing", "running", "cancelling", "loading")
_LOG_LINES = 500


class TranslationJob:
    """Runs one worker. States: idle, preparing, running, cancelling, loading, done, failed,
    cancelled.

    Args:
        source: the volume; its data must not change while the job is preparing.
        parameters: `model`, `model_folder`, `steps`, `seed`, `samples`, `sampler`, `device` of
            job.json.
        load: turns the result into nodes; returns (node, node of the uncertainty or None,
            what adds the agreement's volume to the scene and returns its node, or None).
        onProgress: called with a WorkerProgress.
        onDone: called once with the job when it is done, failed or cancelled.
        launcher: starts the process.
        temporaryFolder: where the job's folder is made; the system's by default.
        silence_s: time without a sign of life after which the worker counts as hanging.
        grace_s: time the worker gets to end by itself.
    """

    def __init__(
        self,
        source: Volume,
        parameters: Mapping[str, Any],
        load: Callable[[WorkerResult], tuple[Any, Any, Callable[[], Any] | None]],
        onProgress: Callable[[WorkerProgress], object] | None = None,
        onDone: Callable[[TranslationJob], object] | None = None,
        *,
        launcher: Launcher = launchWorker,
        temporaryFolder: str | Path | None = None,
        silence_s: float = 300.0,
        grace_s: float = 2.5,
    ) -> None:
        self.state = "idle"
        self.node: Any = None
        self.uncertaintyNode: Any = None
        self.addAgreement: Callable[[], Any] | None = None
        self.error: MIDiffusionError | None = None
        self.progress: WorkerProgress | None = None
        self.warnings: list[str] = []
        self.provenance: dict[str, Any] = {}
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.elapsed_s = 0.0
        self._source: Volume | None = source
        self._volumeBytes = int(source.data.nbytes)
        self._parameters = dict(parameters)
        self._load, self._onProgress, self._onDone = load, onProgress, onDone
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
            self._finish("cancelled", Cancelled("The translation was cancelled."))
        elif self.state == "running":
            self.state = "cancelling"
            self._askToEnd()

    def abandon(self) -> None:
        """End at once, for good: the application or the module goes away."""
        if self.state in RUNNING_STATES:
            if self._process is not None:
                self._process.kill()
                self._process.wait(self._grace_s)
            self._finish("cancelled", Cancelled("The translation was cancelled."))

    # preparing

    def _prepare(self) -> None:
        assert self._source is not None
        try:
            if self._folder is None:
                self._folder = JobFolder(self._temporaryFolder)
                self._folder.writeJob(self._source, self._parameters)
            if self._folder.writeSource(self._source.data):
                self._process = self._launcher(self._folder.path)
                self._source = None
                self.state = "running"
        except Exception as error:
            self._finish("failed", self._told(error, "The translation could not be prepared"))

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
        elif self._killAt is not None:
            if now >= self._killAt:
                self._process.kill()
        elif self._silent_s > self.silence_s:
            self.error = WorkerDied(
                f"The translation gave no sign of life for {self.silence_s:.0f} s and was ended: "
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
        if kind == "progress" and self.state == "running":
            self._report(event)
        elif kind == "preview" and self.state == "running":
            self._preview(event)
        elif kind == "warning":
            self.warnings.append(str(event["message"]))
        elif kind == "error":
            self.error = _errorOf(event["code"], event["message"])
            self._askToEnd()
        elif kind == "done":
            self._done = event
            self._askToEnd()

    def _report(self, event: dict[str, Any]) -> None:
        eta_s, used = event["eta_s"], event["memory"]
        self.progress = WorkerProgress(
            **{name: int(event[name]) for name in ("step", "of", "slices_done", "slices")},
            eta_s=None if eta_s is None else float(eta_s),
            device=str(event["device"]),
            memory_bytes=None if used is None else int(used),
        )
        _call(self._onProgress, self.progress)

    def _preview(self, event: dict[str, Any]) -> None:
        assert self._folder is not None
        with contextlib.suppress(OSError, ValueError):  # a picture less is no failure
            image = self._folder.take(event["file"])
            if self.progress is not None:
                self.progress = replace(self.progress, preview=image)
                _call(self._onProgress, self.progress)

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
            self._finish("cancelled", Cancelled("The translation was cancelled."))
        elif self._done is not None:
            self.state = "loading"  # shown for one turn; the next poll loads
        else:
            used = None if self.progress is None else self.progress.memory_bytes
            death = self._process.death(self.log, self._volumeBytes, used)
            self._finish("failed", self.error or death)

    def _loaded(self) -> tuple[str, MIDiffusionError | None]:
        assert self._done is not None and self._folder is not None
        try:
            names = [self._done[key] for key in ("result", "uncertainty", "agreement")]
            arrays: list[Any] = [name and self._folder.read(name) for name in names]
            self.provenance = self._done["provenance"]
            self.node, self.uncertaintyNode, self.addAgreement = self._load(
                WorkerResult(*arrays, self.provenance)
            )
        except Exception as error:
            return "failed", self._told(error, "The result could not be added to the scene")
        return "done", None

    def _told(self, failure: Exception, what: str) -> MIDiffusionError:
        """The error to report for a failure on our side; `what` begins its sentence."""
        if isinstance(failure, MIDiffusionError):
            return failure
        if isinstance(failure, MemoryError):
            return memory.shortage(self._volumeBytes, memory.peak_bytes())
        logging.error("MIDiffusion: %s", what, exc_info=failure)
        return _errorOf("internal", f"{what} ({failure}).")

    def _finish(self, state: str, error: MIDiffusionError | None) -> None:
        if self._process is not None:
            self._process.close()
        if self._folder is not None:
            self._folder.remove()
        self._source = None
        self.state, self.error = state, error
        self.elapsed_s = time.monotonic() - self._started
        _call(self._onDone, self)


def _errorOf(code: str, message: str) -> MIDiffusionError:
    """The error that an event describes; codes of no class keep their code."""
    classes = {kind.code: kind for kind in MIDiffusionError.__subclasses__()}
    error = classes.get(code, MIDiffusionError)(message)
    error.code = code
    return error


def _call(callback: Callable[[Any], object] | None, argument: object) -> None:
    """Call back; what a listener does wrong must not leave a process behind."""
    if callback is None:
        return
    try:
        callback(argument)
    except Exception:
        logging.exception("MIDiffusion: a callback failed")
