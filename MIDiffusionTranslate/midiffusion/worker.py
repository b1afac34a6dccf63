"""The worker process: one translation, away from the application that asked for it.

`python -m midiffusion.worker JOB_FOLDER` reads `job.json` and `source.npy` from the folder, writes
`result.npy` and its company there, and prints one JSON object per line on stdout:

    {"event": "start", "pid", "version"}
    {"event": "progress", "step", "of", "slices_done", "slices", "eta_s", "device", "memory"}
    {"event": "preview", "file"}                 a small float32 [H, W] .npy in the folder
    {"event": "warning", "message"}
    {"event": "error", "code", "message"}        codes of `errors`, and "internal"
    {"event": "done", "result", "uncertainty", "agreement", "provenance"}

`job.json`: `ijkToRAS` (4x4), `modality`, `model` (id or folder), `model_folder`, `steps`, `seed`,
`samples`, `sampler`, `device`, and `temporary`: true where the folder is the worker's to remove
should the other side be gone.

The other side keeps our stdin open and writes one line, "run". A line "cancel", the end of stdin,
or a file named `cancel` in the folder ends the run: between two batches of slices if one ends soon,
after two seconds in any case. (Without that first line stdin says nothing: some launchers don't
pass it on. Then only the file, or the folder's disappearance, ends the run.)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from . import __version__, memory
from .errors import (
    Cancelled,
    DependencyMissing,
    DiskFull,
    MIDiffusionError,
    OutOfMemory,
    UnreadableFile,
    UnwritableTarget,
)

if TYPE_CHECKING:
    import numpy as np

    from .model import Progress, Translation

EXIT_DONE, EXIT_ERROR, EXIT_CANCELLED = 0, 1, 130
_GRACE_S = 2.0  # from a cancel to the hard end
_PREVIEW_S = 0.2  # between two previews


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
    """Watches for the wish to stop, and enforces it when the work does not notice in time."""

    def __init__(self, commands: IO[bytes], folder: Path) -> None:
        self.requested = threading.Event()
        self._folder = folder
        self.temporary = False
        for target, arguments in ((self._listen, (commands,)), (self._look, ())):
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def _listen(self, commands: IO[bytes]) -> None:
        connected = False
        for line in commands:
            connected = True
            if line.strip() == b"cancel":
                break
        if connected:
            self._stop()

    def _look(self) -> None:
        while not self.requested.wait(0.25):
            if not self._folder.is_dir() or (self._folder / "cancel").exists():
                self._stop()

    def _stop(self) -> None:
        if self.requested.is_set():
            return
        self.requested.set()
        time.sleep(_GRACE_S)
        self.leave(EXIT_CANCELLED)

    def leave(self, status: int) -> None:
        """End the process now, without the interpreter's (and CUDA's) slow farewell."""
        if status == EXIT_CANCELLED and self.temporary:
            shutil.rmtree(self._folder, ignore_errors=True)
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
        channel.send("start", pid=os.getpid(), version=__version__)
        run(folder, channel, watch)
        status = EXIT_DONE
    except BaseException as error:  # nothing may end in silence
        status = _report(error, channel, folder)
    sys.stderr.flush()
    watch.leave(status)


def run(folder: Path, channel: Channel, watch: CancelWatch) -> None:
    """Read the job, translate, write the result, say where it is."""
    job = _read_job(folder)
    watch.temporary = bool(job.get("temporary"))
    made = _translate(folder, job, channel, watch)
    volumes = {"result": made.volume, "uncertainty": made.uncertainty, "agreement": made.agreement}
    files: dict[str, str | None] = dict.fromkeys(volumes)
    for name, volume in volumes.items():
        if volume is not None:
            files[name] = f"{name}.npy"
            _save(folder / f"{name}.npy", volume.data)
    if watch.requested.is_set():
        raise Cancelled("The translation was cancelled.")
    channel.send("done", **files, provenance=made.provenance)


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
        job["ijkToRAS"], job["model"]  # noqa: B018  (a KeyError is what we want)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(
            f"The job description {folder / 'job.json'} can't be used ({error!r}): start the "
            "translation again."
        ) from error
    return job


def _translate(
    folder: Path, job: dict[str, Any], channel: Channel, watch: CancelWatch
) -> Translation:
    try:
        import numpy as np

        from .model import load_model
        from .volume import Volume
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"The Python package '{error.name}' is not installed: install it (in Slicer: PyTorch "
            "through the PyTorch extension, the rest when Translate offers it)."
        ) from error
    try:
        data = np.load(folder / "source.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UnreadableFile(
            f"The source volume handed to the worker can't be read ({error}): start the "
            "translation again."
        ) from error
    model = load_model(job["model"], job.get("model_folder"))
    names = ("steps", "seed", "samples", "sampler", "device")
    options = {name: job[name] for name in names if job.get(name) is not None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        translation = model.translate(
            Volume(data, job["ijkToRAS"], job.get("modality", "")),
            on_step=_StepReport(folder, channel, watch),
            agreement=True,
            **options,
        )
    for warning in caught:  # ours are for the user; those of the libraries below for the log
        if "midiffusion" in Path(warning.filename).parts:
            channel.send("warning", message=str(warning.message))
        else:
            sys.stderr.write(f"{warning.filename}:{warning.lineno}: {warning.message}\n")
    return translation


class _StepReport:
    """`on_step` of the model: passes progress on and ends the run when that is wanted."""

    def __init__(self, folder: Path, channel: Channel, watch: CancelWatch) -> None:
        self._folder, self._channel, self._watch = folder, channel, watch
        self._previews = 0
        self._next_preview = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._watch.requested.is_set():
            raise Cancelled("The translation was cancelled.")
        names = ("step", "of", "slices_done", "slices", "eta_s", "device")
        known = {name: getattr(progress, name) for name in names}
        self._channel.send("progress", **known, memory=progress.memory_bytes)
        if progress.preview is not None and time.monotonic() >= self._next_preview:
            self._next_preview = time.monotonic() + _PREVIEW_S
            self._previews += 1
            name = f"preview-{self._previews}.npy"
            _save(self._folder / name, progress.preview)
            self._channel.send("preview", file=name)


def _save(path: Path, array: np.ndarray) -> None:
    """Write `array` as float32 .npy, whole or not at all."""
    import numpy as np

    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.save(file, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if disk_is_full(error):
            raise DiskFull(
                f"The disk of {path.parent} is full ({array.size * 4 / 1e6:.0f} MB were to be "
                "written): free some space and translate again."
            ) from error
        raise UnwritableTarget(
            f"The result can't be written to {path.parent} ({error.strerror}): check that the "
            "temporary folder is writable."
        ) from error


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed for want of space (or for a limit on it)."""
    # numpy reports a short write without an errno.
    return error.errno in (None, errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def _report(error: BaseException, channel: Channel, folder: Path) -> int:
    """Send the error event for `error` of the job in `folder`; returns the exit status."""
    if isinstance(error, MIDiffusionError):
        code, message = error.code, str(error)
    elif _is_out_of_memory(error):
        source = folder / "source.npy"
        size = source.stat().st_size if source.is_file() else None
        code, message = OutOfMemory.code, str(memory.shortage(size, memory.peak_bytes()))
    elif isinstance(error, KeyboardInterrupt):
        code, message = Cancelled.code, "The translation was cancelled."
    else:
        code, reason = "internal", textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        message = f"The translation failed unexpectedly ({reason}); see the log for a report."
    if code != Cancelled.code:
        traceback.print_exception(error, file=sys.stderr)
    with contextlib.suppress(Cancelled):
        channel.send("error", code=code, message=message)
    return EXIT_CANCELLED if code == Cancelled.code else EXIT_ERROR


def _is_out_of_memory(error: BaseException) -> bool:
    # The second is what the loader says when a library of torch finds no room.
    signs = ("cannot allocate memory", "failed to map segment")
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)


if __name__ == "__main__":
    main()
