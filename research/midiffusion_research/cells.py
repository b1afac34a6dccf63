"""Cells of the table, kept in a folder so that none is computed twice.

A cell is one method in one direction. What decides its outputs (`Ingredients`: data by content,
method with its options, weights, budget and device where these matter, version of the code) gives
the names of its two files: the outputs, as `predictions` writes them, and a .json with the time
they took and their figures. The .json is written last, so a cell is there whole or not at all; the
figures in it also name the code and the network that made them, and are made anew from the outputs
when these change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .datasets.subject import Subject
from .predictions import read_predictions, write_predictions
from .report import write_text
from .scorer import SubjectFigures

Outputs = Mapping[str, NDArray[np.float32]]
# JSON values that decide what a method gives back.
Ingredients = Mapping[str, Any]


@dataclass
class Cell:
    """One row of the table in one direction.

    name: of the method in the registry. label: what the row is called. seconds: of learning and of
    translating. steps: of the optimiser, for what learns. figures: by size ("128", "native"), then
    by subject. frechet: distance to the real targets at the first size, NaN without a network.
    """

    name: str
    label: str
    learning_seconds: float = 0.0
    seconds: float = float("nan")
    steps: int | None = None
    model: str | None = None
    figures: dict[str, dict[str, SubjectFigures]] = field(default_factory=dict)
    frechet: float = float("nan")


class CellStore:
    """The folder of the cells, made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, ingredients: Ingredients, scoring: str) -> tuple[Cell, bool] | None:
        """The cell, and whether its figures were made by this `scoring`; None if it isn't kept."""
        outputs, record = self._paths(ingredients)
        try:
            values = json.loads(record.read_text(encoding="utf-8"))
            cell = Cell(**values["cell"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or not ours: it is computed again
        if not outputs.is_file() or values.get("ingredients") != _plain(ingredients):
            return None
        return cell, values.get("scoring") == scoring

    def keep_outputs(self, ingredients: Ingredients, outputs: Outputs) -> None:
        """Writes the outputs of a cell that is to be kept; raises UnwritableTarget."""
        write_predictions(self._paths(ingredients)[0], outputs)

    def keep(self, ingredients: Ingredients, scoring: str, cell: Cell) -> None:
        """Writes the rest of it, by which it counts as kept; raises UnwritableTarget."""
        values = {"ingredients": ingredients, "scoring": scoring, "cell": asdict(cell)}
        # Python's own JSON, which has NaN and infinity: nobody else reads this file.
        write_text(self._paths(ingredients)[1], json.dumps(values, indent=1))

    def outputs(
        self, ingredients: Ingredients, subjects: Sequence[Subject]
    ) -> dict[str, NDArray[np.float32]]:
        """Kept outputs of these subjects; raises InvalidData where they can't be read."""
        return read_predictions(self._paths(ingredients)[0], subjects)

    def _paths(self, ingredients: Ingredients) -> tuple[Path, Path]:
        direction = str(ingredients["direction"]).replace(":", "-")
        stem = f"{ingredients['dataset']}_{direction}_{ingredients['method']}_{digest(ingredients)}"
        return self._folder / f"{stem}.npz", self._folder / f"{stem}.json"


def digest(values: object) -> str:
    """Twelve characters that stand for JSON values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def data_digest(subjects: Sequence[Subject]) -> str:
    """Stands for everything that a method or the scorer is given of these subjects."""
    found = hashlib.sha256()
    for subject in subjects:
        found.update(f"{subject.id} {subject.source.modality} {subject.contiguous}".encode())
        arrays = (subject.source.data, subject.source.ijkToRAS, subject.target, subject.head)
        for array in (*arrays, *(() if subject.tumour is None else (subject.tumour,))):
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]


def _plain(ingredients: Ingredients) -> Any:
    return json.loads(json.dumps(ingredients))
