"""How much memory there is, without torch: the figures in every sentence on a lack of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutOfMemory

if sys.platform != "win32":
    import resource  # now: where memory runs short, nothing more can be imported

# What says "no memory left", beside Python's MemoryError, in lower case.
_SIGNS = (
    "memoryerror",
    "out of memory",
    "allocate memory",
    "memory allocation",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "can't start new thread",
    "failed to map segment",  # the loader, where a library of torch finds no room
    "could not create a memory",
    # What oneDNN makes of it, under the convolutions of a CPU; it names no other reason either.
    "could not create a primitive",
    "could not execute a primitive",
)


def tells_of_shortage(words: str) -> bool:
    """Whether a message of Python, PyTorch or the libraries below it says: no memory left."""
    lower = words.lower()
    return any(sign in lower for sign in _SIGNS)


def is_shortage(failure: BaseException) -> bool:
    """Whether an exception says: no memory left."""
    return isinstance(failure, MemoryError) or tells_of_shortage(str(failure))


def peak_bytes() -> int | None:
    """Most memory this process has used so far; None where that isn't known (Windows)."""
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_bytes() -> int | None:
    """Memory this process can still get; None where that isn't known (macOS)."""
    if sys.platform == "win32":
        return _free_on_windows()
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(available.split()[1]) << 10
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            free = min(free, max(0, limit - pages * os.sysconf("SC_PAGE_SIZE")))
        left = _free_of_cgroup()
        free = free if left is None else min(free, left)
    except (OSError, ValueError, StopIteration):
        return None
    return free


def _free_of_cgroup() -> int | None:
    """What the limit of a container or of a Slurm task leaves; None without a limit."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text("ascii"))
        used = int((group / "memory.current").read_text("ascii"))
        lines = (group / "memory.stat").read_text("ascii").splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return max(0, limit - used + cached)  # cached files give way
    except (OSError, ValueError, StopIteration):  # no such file, or "max"
        return None


def _free_on_windows() -> int | None:
    # MEMORYSTATUSEX: its own length, a percentage, and seven sizes; the second is what is free.
    status = (ctypes.c_uint64 * 8)(64)
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (no other system has it)
    return int(status[2]) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def figures(used: int | None, free: int | None) -> str:
    """What is known of these sizes in bytes, such as "812 MB used, 90 MB free"; may be empty."""
    return ", ".join(
        f"{size / 2**20:.0f} MB {what}"
        for size, what in ((used, "used"), (free, "free"))
        if size is not None
    )


def shortage(volume_bytes: int | None, used: int | None) -> OutOfMemory:
    """The error for a volume of so many bytes, after `used` bytes were in use."""
    size = "" if volume_bytes is None else f" of {volume_bytes / 2**20:.1f} MB"
    known = figures(used, free_bytes())
    return OutOfMemory(
        f"The computer's memory is too small for this volume{size}{known and f' ({known})'}: "
        "close other programs, or crop or downsample the volume."
    )


@contextlib.contextmanager
def told_with_figures(volume_bytes: int | None) -> Iterator[None]:
    """A MemoryError in the block becomes the OutOfMemory that says how large the volume is."""
    try:
        yield
    except MemoryError as error:
        raise shortage(volume_bytes, peak_bytes()) from error
