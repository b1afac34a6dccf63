"""What a task of the worker is given: its job, its folder, and the way back to the application."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import Cancelled, DiskFull, UnreadableFile, UnwritableTarget, disk_is_full

if TYPE_CHECKING:
    import numpy as np

GRACE_S = 2.0  # from the wish to end to the hard end


class Task:
    """One job of the worker.

    Args:
        folder: the job's folder.
        job: the fields of `job.json`.
        send: sends an event, as `worker.Channel.send`; raises Cancelled when nobody reads.
        cancelled: whether the end is wished for.
    """

    def __init__(
        self,
        folder: Path,
        job: dict[str, Any],
        send: Callable[..., None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.folder, self.job, self.send = folder, job, send
        self.leftovers: list[Path] = []  # folders to remove should the process end before its time
        self.grace_s = GRACE_S  # may be raised by what has something to save
        self.cancelled = cancelled

    def check(self) -> None:
        """Raises Cancelled if the end is wished for; called between two parts of the work."""
        if self.cancelled():
            raise Cancelled("The work was cancelled.")

    def load(self, name: str) -> np.ndarray:
        """The array that the application wrote as `<name>.npy`. Raises UnreadableFile."""
        import numpy as np

        try:
            array: np.ndarray = np.load(self.folder / f"{name}.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UnreadableFile(
                f"The {name} volume handed to the worker can't be read ({error}): start again."
            ) from error
        return array

    def save(self, name: str, array: np.ndarray) -> str:
        """Writes `array` as float32 `<name>.npy`, whole or not at all; returns the file's name.

        Raises DiskFull and UnwritableTarget.
        """
        import numpy as np

        part = self.folder / f"{name}.part"
        try:
            with part.open("wb") as file:
                np.save(file, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
            part.replace(self.folder / f"{name}.npy")
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            if disk_is_full(error):
                raise DiskFull(
                    f"The disk of {self.folder} is full ({array.size * 4 / 1e6:.0f} MB were to be "
                    "written): free some space and translate again."
                ) from error
            raise UnwritableTarget(
                f"The result can't be written to {self.folder} ({error.strerror}): check that the "
                "temporary folder is writable."
            ) from error
        return f"{name}.npy"
