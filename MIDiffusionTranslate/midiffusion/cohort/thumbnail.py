"""A picture of one result for the quality report: source, result and error map in three planes."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..images.volume import Volume

TILE = 150  # pixels, the longer side of a plane
_CT_HU, _MR = (-400.0, 1000.0), (0.0, 1100.0)  # grey windows of results
_MOST_ERROR = 300.0  # HU; MR: of 1000, the 99.5th percentile in the head
_HEAT = np.array([[0, 0, 0], [90, 20, 110], [220, 60, 50], [250, 190, 40], [255, 255, 230]], float)


def thumbnail(source: Volume, result: Volume, error_map: Volume | None) -> bytes:
    """JPEG with a row for each plane (axial, coronal, sagittal; anterior or superior up, the
    patient's right or front on the left) and a column for source, result and error map.

    The planes meet in the middle of the head. All volumes lie on one grid.
    """
    is_ct = "CT" in result.modality.upper()
    standing = _standing(result)
    places = _middle(standing, -300.0 if is_ct else 0.0)
    shown = _standing(source)
    columns: list[tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]] = [
        (shown, partial(_grey, window=_window(shown))),
        (standing, partial(_grey, window=_CT_HU if is_ct else _MR)),
    ]
    if error_map is not None:
        columns.append((_standing(error_map), _heat))
    spacing = _standing_spacing(result)
    rows = []
    for axis in range(3):
        tiles = [
            _tile(colour(np.take(array, places[axis], axis)), axis, spacing)
            for array, colour in columns
        ]
        rows.append(np.concatenate(tiles, axis=1))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows, axis=0)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def thumbnail_path(out: Path, result: Path) -> Path:
    """Where the thumbnail of a result lies: in a hidden folder, which BIDS ignores."""
    name = result.relative_to(out).as_posix().removesuffix(".nii.gz").replace("/", "__")
    return out / ".thumbnails" / f"{name}.jpg"


def _axes(volume: Volume) -> tuple[list[int], list[bool]]:
    """Array axes that run nearest to superior, anterior and right, and whether to flip them."""
    cosines = volume.ijkToRAS[:3, :3] / np.linalg.norm(volume.ijkToRAS[:3, :3], axis=0)
    free, axes, flips = [0, 1, 2], [], []
    for world in (2, 1, 0):
        index = max(free, key=lambda i: abs(cosines[world, i]))
        free.remove(index)
        axes.append(2 - index)  # arrays are [k, j, i]
        flips.append(bool(cosines[world, index] < 0))
    return axes, flips


def _standing(volume: Volume) -> np.ndarray:
    """The values as [superior, anterior, right], float32."""
    axes, flips = _axes(volume)
    array = np.transpose(volume.data, axes).astype(np.float32)
    return np.ascontiguousarray(array[tuple(slice(None, None, -1 if f else 1) for f in flips)])


def _standing_spacing(volume: Volume) -> list[float]:
    axes, _ = _axes(volume)
    return [float(volume.spacing_mm[2 - axis]) for axis in axes]


def _middle(standing: np.ndarray, above: float) -> list[int]:
    """Indices of the middle of the head, which is brighter than `above`."""
    inside = standing > above
    places = []
    for axis in range(3):
        filled = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        places.append(int(filled[len(filled) // 2]) if filled.size else standing.shape[axis] // 2)
    return places


def _window(array: np.ndarray) -> tuple[float, float]:
    """From the 0.5th percentile to the 99.5th of what is brighter than the mean."""
    some = array[::2, ::2, ::2]
    some = some[np.isfinite(some)]
    bright = some[some > some.mean()] if some.size else some
    if not bright.size:
        return 0.0, 1.0
    return float(np.percentile(some, 0.5)), float(np.percentile(bright, 99.5))


def _grey(plane: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """uint8 [H, W, 3]."""
    low, high = window
    grey = np.nan_to_num((plane - low) / max(high - low, 1e-6)).clip(0, 1)
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _heat(error: np.ndarray) -> np.ndarray:
    """Black, violet, red, yellow, white at `_MOST_ERROR`: uint8 [H, W, 3]."""
    positions = (error / _MOST_ERROR).clip(0, 1) * (len(_HEAT) - 1)
    ticks = np.arange(len(_HEAT))
    return np.stack([np.interp(positions, ticks, c) for c in _HEAT.T], axis=-1).astype(np.uint8)


def _tile(plane: np.ndarray, axis: int, spacing: list[float]) -> np.ndarray:
    """The plane in its true proportions; anterior or superior up, right or anterior on the left."""
    plane = plane[::-1, ::-1]
    down_mm, across_mm = (spacing[a] for a in range(3) if a != axis)
    height, width = plane.shape[0] * down_mm, plane.shape[1] * across_mm
    factor = TILE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (TILE, size[1]))
    tile.paste(small, ((TILE - size[0]) // 2, 0))
    return np.asarray(tile)
