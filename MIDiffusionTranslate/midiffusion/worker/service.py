"""The worker process: one task after the other, away from the application that asked for them.

`python -m midiffusion.worker.service JOB_FOLDER` reads `job.json` from the folder, runs the task
that its field `task` names (see `tasks`; each task's module documents its fields and files), and
prints one JSON object per line on stdout:

    {"event": "start", "pid", "version"}
    ...                                          the task's own
    {"event": "error", "code", "message"}        codes of `errors`, and "internal"
    {"event": "done", ...}

Fields of every job: `temporary` is true where the worker removes the folder if the application is
gone. With `stay_s` the worker stays after a "done", which then has the field `stays`: true. It
waits so many seconds for the next job, one line {"job": JOB_FOLDER} on stdin, and keeps the model
loaded meanwhile. It never stays after an error.

The application keeps our stdin open and writes one line, "run". A line "cancel", the end of stdin,
or a file named `cancel` in the folder ends the process: between two batches of slices if one ends
soon, after two seconds in any case (a training has longer, to save its checkpoint). Some launchers
don't pass stdin on: without the line "run" the end of stdin means nothing, only the file or the
folder's disappearance ends the process, and the worker does not stay.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import shutil
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any, TextIO

from .. import __version__
from ..errors import Cancelled, DependencyMissing, MIDiffusionError, OutOfMemory, UnreadableFile
from ..runtime import memory
from . import tasks
from .tasks.task import GRACE_S, Task

EXIT_DONE, EXIT_ERROR, EXIT_CANCELLED = 0, 1, 130


class Channel:
    """Events out, one JSON object per line, each flushed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: str, **fields: Any) -> None:
        """Write one event. Raises Cancelled when nobody reads any more."""
        line = json.dumps({"event": event, **fields})
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError) as error:
            raise Cancelled("Nobody listens to the worker any more.") from error


class CancelWatch:
    """Reads stdin, watches for a cancel, and enforces it when the task does not notice in time."""

    def __init__(self, commands: IO[bytes], folder: Path) -> None:
        self.requested = threading.Event()
        self.connected = False  # whether stdin is the application's
        self._jobs: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._folder: Path | None = folder
        self.task: Task | None = None  # says how long to wait, and what to remove
        for target, arguments in ((self._listen, (commands,)), (self._look, ())):
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def release(self) -> None:
        """The job is done: its folder belongs to the application."""
        self._folder = self.task = None

    def next_job(self, seconds: float) -> Path | None:
        """The folder of the next job; None after so many seconds, or at the end of stdin."""
        try:
            self._folder = self._jobs.get(timeout=seconds)
        except queue.Empty:
            return None
        return self._folder

    def _listen(self, commands: IO[bytes]) -> None:
        for line in commands:
            self.connected = True
            word = line.strip()
            if word == b"cancel":
                break
            if word.startswith(b"{"):
                try:
                    self._jobs.put(Path(json.loads(word)["job"]))
                except (ValueError, KeyError, TypeError):
                    break
        if self.connected:
            self._jobs.put(None)
            self._stop()

    def _look(self) -> None:
        while not self.requested.wait(0.25):
            folder = self._folder
            asked = folder and (not folder.is_dir() or (folder / "cancel").exists())
            if asked and folder == self._folder:  # else the job has been released meanwhile
                self._stop()

    def _stop(self) -> None:
        if self.requested.is_set():
            return
        self.requested.set()
        asked = time.monotonic()
        while time.monotonic() < asked + (self.task.grace_s if self.task else GRACE_S):
            time.sleep(0.1)
        self.leave(EXIT_CANCELLED)

    def leave(self, status: int) -> None:
        """End the process now, without the interpreter's (and CUDA's) slow farewell."""
        if status == EXIT_CANCELLED and self.task is not None:
            for folder in self.task.leftovers:
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(status)


def main(arguments: list[str] | None = None) -> None:
    """Run the job of the folder named by the only argument; never returns."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.exit("usage: python -m midiffusion.worker JOB_FOLDER")
    channel, commands = _take_standard_streams()
    folder = Path(arguments[0]).resolve()
    os.chdir(tempfile.gettempdir())  # the job folder must stay removable while we run
    watch = CancelWatch(commands, folder)
    status = EXIT_ERROR
    try:
        following: Path | None = folder
        while following is not None:
            folder = following
            channel.send("start", pid=os.getpid(), version=__version__)
            following = run(folder, channel, watch)
        status = EXIT_DONE
    except BaseException as error:  # nothing may end in silence
        status = _report(error, channel, folder)
    sys.stderr.flush()
    watch.leave(status)


def run(folder: Path, channel: Channel, watch: CancelWatch) -> Path | None:
    """Read the job, run its task, report the result; returns the folder of the next job."""
    job = _read_job(folder)
    task = Task(folder, job, channel.send, watch.requested.is_set)
    watch.task = task
    if job.get("temporary"):
        task.leftovers.append(folder)
    try:
        module = importlib.import_module(f"{tasks.__name__}.{job['task']}")
        done = module.run(task)
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"The Python package '{error.name}' is not installed: install it (in Slicer: PyTorch "
            "through the PyTorch extension, the rest when Translate offers it)."
        ) from error
    task.check()
    if "stay_s" not in job or not watch.connected:
        channel.send("done", **done)
        return None
    sys.stderr.flush()
    watch.release()
    channel.send("done", **done, stays=True)
    return watch.next_job(job["stay_s"])


def _take_standard_streams() -> tuple[Channel, IO[bytes]]:
    """Keep stdout for events and stdin for commands; everybody else gets stderr and nothing.

    Libraries print to descriptor 1 from C as well, so the descriptors are moved, not only
    `sys.stdout`. Descriptor 0 is freed because on Windows a library that looks at standard input
    while another thread reads from it waits for that read to end.
    """
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    commands = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(events), commands


def _read_job(folder: Path) -> dict[str, Any]:
    try:
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        if job["task"] not in tasks.NAMES:
            raise ValueError(f"no task {job['task']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(
            f"The job description {folder / 'job.json'} can't be used ({error!r}): start again."
        ) from error
    return job


def _report(error: BaseException, channel: Channel, folder: Path) -> int:
    """Send the error event for `error` of the job in `folder`; returns the exit status."""
    if isinstance(error, MIDiffusionError):
        code, message = error.code, str(error)
    elif memory.is_shortage(error):
        traceback.clear_frames(error.__traceback__)  # room for the report
        source = folder / "source.npy"
        size = source.stat().st_size if source.is_file() else None
        code, message = OutOfMemory.code, str(memory.shortage(size, memory.peak_bytes()))
    elif isinstance(error, KeyboardInterrupt):
        code, message = Cancelled.code, "The work was cancelled."
    else:
        code, reason = "internal", textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        message = f"The work failed unexpectedly ({reason}); see the log for a report."
    with contextlib.suppress(Cancelled):
        channel.send("error", code=code, message=message)
    if code != Cancelled.code:
        with contextlib.suppress(Exception):  # what matters is told; a trace needs memory too
            traceback.print_exception(error, file=sys.stderr)
    return EXIT_CANCELLED if code == Cancelled.code else EXIT_ERROR


if __name__ == "__main__":
    main()
