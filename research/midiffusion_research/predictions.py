"""Outputs of any method in a file, to be scored or scored again.

An .npz with one array per subject, named by its id: [S, 128, 128] (the data set's own grid for
volumes) in model units, float32 or any real type.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData, UnwritableTarget
from numpy.typing import NDArray

from .datasets.subject import Subject


def read_predictions(path: Path, subjects: Sequence[Subject]) -> dict[str, NDArray[np.float32]]:
    """Outputs of all the given subjects. Raises InvalidData for a file that is not such an .npz or
    lacks a subject; shapes and values are checked when they are scored."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [subject.id for subject in subjects if subject.id not in archive]
            if missing:
                raise InvalidData(
                    f"{path} has no output for {len(missing)} of {len(subjects)} subjects, for "
                    f"example {missing[0]}."
                )
            return {s.id: archive[s.id].astype(np.float32) for s in subjects}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidData(f"{path} can't be read as an .npz of predictions: {error}") from error


def write_predictions(path: Path, outputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Writes what `read_predictions` reads; raises UnwritableTarget."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part.npz")
        np.savez_compressed(part, allow_pickle=False, **outputs)
        part.replace(path)
    except OSError as error:
        raise UnwritableTarget(f"{path} can't be written: {error}") from error
