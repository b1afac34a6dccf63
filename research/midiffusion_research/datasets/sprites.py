"""What the compact forms have in common: a folder of sprites, and a place in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData
from numpy.typing import NDArray

# Distance of neighbouring slices of a stack, over which noise and detail are shared: a guess,
# twenty slices over a head of about 12 cm.
_SLICE_MM = 6.0


def find_folder(root: Path, collection: str, files: Sequence[str]) -> Path:
    """The folder of the collection: `root/collection` if there is one, otherwise `root`.

    Raises InvalidData naming what it lacks of `files`.
    """
    folder = root / collection if (root / collection).is_dir() else root
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise InvalidData(
            f"{folder} lacks {len(missing)} of {len(files)} files of {collection}, for example "
            f"{missing[0]}; give the folder of the collection as --data."
        )
    return folder


def radiological(pixel_mm: float) -> NDArray[np.float64]:
    """ijkToRAS of a stack of axial slices, row 0 anterior, column 0 the patient's right, from
    inferior to superior."""
    return np.diag([-pixel_mm, -pixel_mm, _SLICE_MM, 1.0])
