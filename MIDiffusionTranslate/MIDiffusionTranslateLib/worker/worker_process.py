"""The operating system's side of a job: start the worker, read its pipes, end its tree.

Two threads read the pipes, because a pipe can't be read without waiting on every platform; they
only move bytes into queues, and everything else happens on the thread that asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

import midiffusion
from midiffusion.errors import MIDiffusionError, OutOfMemory, WorkerDied
from midiffusion.runtime import memory

_WINDOWS = os.name == "nt"
_MAX_LINE = 1 << 20  # characters; a longer line is not one of ours


class Launcher(Protocol):
    """Starts the worker of a job folder; raises WorkerDied or OSError when it can't."""

    def __call__(self, folder: Path) -> WorkerProcess: ...


class WorkerProcess:
    """A running worker.

    Args:
        command: executable and arguments.
        environment: of the new process.
        folder: its working folder.
        beforeExec: POSIX only, called in the child (resource limits, in tests).
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        beforeExec: Callable[[], None] | None = None,
    ) -> None:
        self._popen = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A group of its own, so that launcher and interpreter can be ended together.
            start_new_session=not _WINDOWS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            preexec_fn=beforeExec,
        )
        self._reaped = False
        assert self._popen.stdin and self._popen.stdout and self._popen.stderr
        self._input = self._popen.stdin
        self._output = _PipeReader(self._popen.stdout)
        self._errors = _PipeReader(self._popen.stderr)
        # Tells the worker that its stdin is ours, so that the end of it means something.
        with contextlib.suppress(OSError):
            self._input.write(b"run\n")
            self._input.flush()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def outputLines(self) -> Iterator[str]:
        return self._output.lines()

    def errorLines(self) -> Iterator[str]:
        return self._errors.lines()

    def ended(self) -> bool:
        """Whether the process is gone and its last words have been read."""
        if self._popen.poll() is None:
            return False
        if not self._reaped:
            self._reaped = True
            self._endGroup()  # whatever is left of it would keep the pipes open
        return self._output.atEnd() and self._errors.atEnd()

    def exited(self) -> bool:
        return self._popen.poll() is not None

    def request(self, folder: Path) -> None:
        """Give an idle worker its next job. A worker that is gone shows in `ended`."""
        with contextlib.suppress(OSError, ValueError):
            self._input.write(json.dumps({"job": str(folder)}).encode() + b"\n")
            self._input.flush()

    def closeInput(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()

    def kill(self) -> None:
        """End the process and its children, without their consent."""
        if self._popen.poll() is not None:
            return
        if _WINDOWS:
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(self.pid)],
                capture_output=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                check=False,
            )
        else:
            self._endGroup()
        with contextlib.suppress(OSError):
            self._popen.kill()

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)

    def close(self) -> None:
        self.closeInput()
        self._output.close()
        self._errors.close()

    def death(
        self, log: Iterable[str], volumeBytes: int, used: int | None, task: str = "translation"
    ) -> MIDiffusionError:
        """Why a process ended that did not say it itself.

        log: what it left. volumeBytes: of what it was given, 0 if nothing. used: its memory, in
        bytes, when it last said so. task: what it is called in a sentence.
        """
        status = self._popen.returncode
        last = next((line.strip() for line in reversed(list(log)) if line.strip()), "")
        detail = f" Its last words: {last[:200]}" if last else ""
        if memory.tells_of_shortage(last):
            return OutOfMemory(f"{memory.shortage(volumeBytes, used)}{detail}")
        if status is not None and status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
            size = f"volume of {volumeBytes / 2**20:.1f} MB" if volumeBytes else ""
            known = "; ".join(filter(None, (size, memory.figures(used, memory.free_bytes()))))
            return WorkerDied(
                f"The {task}'s process was ended from outside ({name}), as systems do when "
                f"memory runs out{known and f' ({known})'}: close other programs and try again."
                f"{detail}"
            )
        return WorkerDied(
            f"The {task}'s process ended unexpectedly (exit status {status}): try again, and see "
            f"the log if it happens again.{detail}"
        )

    def _endGroup(self) -> None:
        if not _WINDOWS:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)


class _PipeReader:
    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._pipe.fileno(), 1 << 16):
                self._chunks.put(chunk)
        self._chunks.put(b"")

    def lines(self) -> Iterator[str]:
        """The complete lines that have arrived, and at the end what is left."""
        while not self._ended:
            try:
                chunk = self._chunks.get_nowait()
            except queue.Empty:
                return
            self._ended = not chunk
            *complete, self._rest = (self._rest + chunk).split(b"\n")
            if self._rest and (self._ended or len(self._rest) > _MAX_LINE):
                complete.append(self._rest)
                self._rest = b""
            for line in complete:
                yield line.decode("utf-8", errors="replace").rstrip("\r")

    def atEnd(self) -> bool:
        return self._ended

    def close(self) -> None:
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._pipe.close()


def pythonInterpreter() -> str:
    """The Python to run the worker with; raises WorkerDied if there is none.

    Inside Slicer sys.executable may be the application, and PythonSlicer is on its PATH. Anywhere
    else a PythonSlicer on the PATH belongs to another installation with other packages.
    """
    if "python" in Path(sys.executable or "").name.lower():
        return sys.executable
    interpreter = shutil.which("PythonSlicer")
    if interpreter is None:
        raise WorkerDied(
            "The translation's process can't be started (PythonSlicer, Slicer's Python, was not "
            "found): repair the installation of Slicer."
        )
    return interpreter


def launchWorker(folder: Path, beforeExec: Callable[[], None] | None = None) -> WorkerProcess:
    """Start the worker on a job folder, with Slicer's interpreter where there is one."""
    interpreter = pythonInterpreter()
    library = str(Path(midiffusion.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": library if not path else library + os.pathsep + path,
    }
    command = [interpreter, "-m", "midiffusion.worker.service", str(folder)]
    try:
        return WorkerProcess(command, environment, folder, beforeExec)
    except OSError as error:
        raise WorkerDied(
            f"The translation's process can't be started ({interpreter}: {error.strerror}): "
            "repair the installation, or free some memory."
        ) from error
