"""The temporary folder in which the application and the worker exchange volumes."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from midiffusion.errors import DiskFull, MIDiffusionError, UnwritableTarget, disk_is_full

_PART = 32 << 20  # bytes of the source written at a time: some 20 ms


class JobFolder:
    """One job's folder: `job.json` and arrays in, arrays out.

    Args:
        parent: folder to make it in; the system's temporary folder by default.

    Raises UnwritableTarget and DiskFull, as all that writes here does.
    """

    def __init__(self, parent: str | Path | None = None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="midiffusion-", dir=parent))
        except OSError as error:
            raise _unwritable(parent or tempfile.gettempdir(), error) from error
        self._written: dict[str, int] = {}

    def writeJob(self, parameters: Mapping[str, Any]) -> None:
        job = {**parameters, "temporary": True}
        try:
            (self.path / "job.json").write_text(json.dumps(job), encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def writeArray(self, name: str, data: np.ndarray) -> bool:
        """Write the next part of data [k, j, i] to `<name>.npy`; True when it is complete."""
        slices = max(1, _PART // max(1, data[0].nbytes))
        written = self._written.get(name, 0)
        part = np.ascontiguousarray(data[written : written + slices])
        header = {"descr": data.dtype.str, "fortran_order": False, "shape": data.shape}
        try:
            with (self.path / f"{name}.npy").open("ab") as file:
                if written == 0:
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(part.data)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._written[name] = written + slices
        return self._written[name] >= data.shape[0]

    def read(self, name: str) -> np.ndarray:
        """The array of a file the worker wrote. Raises OSError and ValueError."""
        array: np.ndarray = np.load(self.path / name, allow_pickle=False)
        return array

    def take(self, name: str) -> np.ndarray:
        """`read`, and remove the file."""
        array = self.read(name)
        (self.path / name).unlink()
        return array

    def requestCancel(self) -> None:
        """For a worker that can't see the end of its standard input."""
        with contextlib.suppress(OSError):
            (self.path / "cancel").touch()

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _unwritable(place: str | Path, error: OSError) -> MIDiffusionError:
    if disk_is_full(error):
        return DiskFull(
            f"The disk of the temporary folder {place} is full: free some space there and "
            "translate again."
        )
    return UnwritableTarget(
        f"The temporary folder {place} can't be used ({error.strerror}): check that it exists and "
        "is writable."
    )
