"""FreeSurfer's .mgh and .mgz files (read only).

Reference: https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat. The tests compare with
nibabel.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from .file_bytes import first_bytes, read_array, unreadable
from .nifti import chosen_frame
from .volume import Volume

_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_HEADER = 284  # bytes


def read_mgh(path: Path, frame: int | None = None) -> Volume:
    """One volume; frame: of a series, from 0. Raises UnreadableFile and InvalidVolume."""
    raw = first_bytes(path, _HEADER)
    if len(raw) < _HEADER:
        raise unreadable(path)
    version, ni, nj, nk, frames, kind, _, placed = struct.unpack_from(">7ih", raw)
    if version != 1 or kind not in _TYPES or min(ni, nj, nk, frames) < 1:
        raise unreadable(path)
    numbers = np.array(struct.unpack_from(">15f", raw, 30), np.float64)
    if placed != 1:  # as FreeSurfer: 1 mm, coronal
        numbers[:] = (1, 1, 1, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0)
    matrix = np.eye(4)
    matrix[:3, :3] = numbers[3:12].reshape(3, 3).T * numbers[:3]
    # The point of the header lies at half the number of voxels, not between the outer ones.
    matrix[:3, 3] = numbers[12:] - matrix[:3, :3] @ (np.array([ni, nj, nk]) / 2)
    dtype, count = np.dtype(_TYPES[kind]), ni * nj * nk
    at = chosen_frame(path, frames, frame)
    read_array(path, _HEADER, 0, dtype, skip=count * frames)  # all frames are there
    data = read_array(path, _HEADER, count, dtype, skip=count * at)
    data = data.astype(dtype.newbyteorder("=")).reshape(nk, nj, ni)
    notes = () if placed == 1 else (f"{path.name} has no orientation: FreeSurfer's is assumed.",)
    return Volume(data, matrix, notes=notes)
