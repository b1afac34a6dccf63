"""Claims: of several processes on one folder, one translates an item.

A claim is a file that only one process can create; it names its process. The owner touches it every
few seconds. A claim is stale if nobody has touched it for a minute, or if its process has ended on
this computer. Another process takes a stale claim over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import threading
import time
from pathlib import Path

HEARTBEAT_S, STALE_S = 10.0, 60.0
# Temporary files of `images.io`, and those of sidecars and reports; no file of a user.
_PART = re.compile(r"\.[0-9a-f]{32}\.part\..+|\..+\.(json|html)\.part")


class Claims:
    """Claims in the folder `.claims` of the results.

    Args:
        out: folder of the results.
        stale_s: age of the last heartbeat from which a claim is nobody's.
    """

    def __init__(self, out: Path, stale_s: float = STALE_S) -> None:
        self._folder, self._stale_s = out / ".claims", stale_s
        self._held: set[Path] = set()
        self._ended = threading.Event()

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for path in list(self._held):
            self._drop(path)
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # only if no other process has a claim

    def take(self, name: str) -> bool:
        """Whether the item is ours now; give it back with `release`."""
        path = self._path(name)
        if self._is_stale(path):
            self._free(path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.write(descriptor, f"{socket.gethostname()} {os.getpid()}".encode())
        os.close(descriptor)
        self._held.add(path)
        return True

    def release(self, name: str) -> None:
        self._drop(self._path(name))

    def _is_stale(self, path: Path) -> bool:
        try:
            return time.time() - path.stat().st_mtime > self._stale_s or _has_ended(path)
        except OSError:
            return False

    def _free(self, path: Path) -> None:
        """Remove a stale claim. One process at a time looks again and removes: without the lock a
        slow one could remove the claim of another that has just taken the item over."""
        lock = path.with_name(f"{path.name}.lock")
        with contextlib.suppress(OSError):
            if self._is_stale(lock):  # its process was killed
                lock.unlink()
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            try:
                if self._is_stale(path):
                    path.unlink()
            finally:
                lock.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / hashlib.sha256(name.encode()).hexdigest()[:32]

    def _drop(self, path: Path) -> None:
        self._held.discard(path)
        with contextlib.suppress(OSError):
            path.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(min(HEARTBEAT_S, self._stale_s / 4)):
            for path in list(self._held):
                with contextlib.suppress(OSError):
                    os.utime(path)


def _has_ended(path: Path) -> bool:
    """Whether the process that a claim names ran on this computer and runs no more."""
    host, _, pid = path.read_text("utf-8").partition(" ")
    if os.name == "nt" or host != socket.gethostname() or not pid.isdigit():
        return False  # Windows has no signal that asks
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def remove_stale_parts(out: Path, stale_s: float = STALE_S) -> None:
    """Remove the temporary files of processes that were killed while they wrote; those of living
    ones are younger."""
    for path in out.rglob(".*.part*"):
        with contextlib.suppress(OSError):
            if _PART.fullmatch(path.name) and time.time() - path.stat().st_mtime > stale_s:
                path.unlink()
