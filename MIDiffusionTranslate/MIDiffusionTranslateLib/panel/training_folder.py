"""The folder of a training run as the panel sees it: what is in it, and keeping it tidy.

`midiffusion train` leaves there the bundle, `checkpoint.safetensors` and `log.csv`.
"""

from __future__ import annotations

import contextlib
import csv
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
_UNFINISHED = (f"{CHECKPOINT}.partial", ".card.json.part", ".weights.safetensors.part")


@dataclass(frozen=True)
class Curve:
    """The loss over a run: seconds trained and loss, and the same of the images held back."""

    seconds: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()
    heldBackSeconds: tuple[float, ...] = ()
    heldBackLoss: tuple[float, ...] = ()

    @property
    def spent_s(self) -> float:
        return self.seconds[-1] if self.seconds else 0.0


class TrainingFolder:
    """One run's folder, which need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = -1
        self._curve = Curve()

    @property
    def resumable(self) -> bool:
        return (self.path / CHECKPOINT).is_file()

    @property
    def taken(self) -> bool:
        """Whether there is something in it that is no training run of ours to go on with."""
        if self.resumable:
            return False
        return self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()))

    def curve(self) -> Curve:
        """What `log.csv` says so far; empty without one. Read anew only when it has changed."""
        log = self.path / LOG
        try:
            size = log.stat().st_size
            if size != self._size:
                self._curve, self._size = _read(log), size
        except OSError:
            self._curve, self._size = Curve(), -1
        return self._curve

    def tidy(self) -> None:
        """Removes what a process that was ended left unfinished; without a checkpoint, everything
        that the run made."""
        unwanted = _UNFINISHED if self.resumable else (*_UNFINISHED, LOG)
        for name in unwanted:
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        if not self.resumable:
            with contextlib.suppress(OSError):  # there is something of others in it
                self.path.rmdir()


_NO_LOSS = ("step", "seconds", "images", "images_per_second", "validation_loss")


def _read(log: Path) -> Curve:
    rows: list[tuple[float, float, float | None]] = []
    with log.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                held = row.get("validation_loss")
                loss = sum(float(value) for name, value in row.items() if name not in _NO_LOSS)
                entry = (float(row["seconds"]), loss, float(held) if held else None)
            except (KeyError, TypeError, ValueError):  # a row that is being written
                continue
            while rows and rows[-1][0] >= entry[0]:  # a resumed run goes back to its checkpoint
                rows.pop()
            rows.append(entry)
    held_back = [(seconds, value) for seconds, _, value in rows if value is not None]
    return Curve(
        tuple(seconds for seconds, _, _ in rows),
        tuple(loss for _, loss, _ in rows),
        tuple(seconds for seconds, _ in held_back),
        tuple(value for _, value in held_back),
    )
