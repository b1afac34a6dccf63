"""Training images of one target: a folder of volumes or of slices."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DependencyMissing, InvalidData, MIDiffusionError
from ..images.anatomy import SOLID_HU, without_couch
from ..images.formats import READ_ENDINGS, volume_files
from ..images.grid import SliceGrid
from ..images.intensity import HounsfieldIntensity, intensity_map
from ..images.io import read_volume
from ..images.volume import Volume

FIELD_MM = 128 * 190 / 114  # side of the training images
_LEAST, _MULTIPLE = 128, 16  # pixels; the networks halve four times
_SLICE_ENDINGS = (".png", ".tif", ".tiff")
_SMALLEST_HEAD = 0.08  # share of an image: slices with less head teach nothing
_LARGEST_MM = 300.0  # extent of a head with air around it, in the plane
_PLANES = ("sagittal", "coronal", "axial")


def image_size(pixel_mm: float) -> int:
    """Side of the training images, pixels: FIELD_MM or more."""
    return max(_LEAST, _MULTIPLE * math.ceil(FIELD_MM / pixel_mm / _MULTIPLE - 1e-6))


def load_target(folder: Path, pixel_mm: float, intensity: dict[str, object]) -> Tensor:
    """All images of a folder on the model's grid.

    Args:
        folder: volumes of the target modality in any format that is read, or single slices (.png,
            .tif, .tiff) at the model's pixel size.
        pixel_mm: in-plane pixel size of the model.
        intensity: the card's intensity map.

    Returns:
        [N, 1, S, S] float32, model units, S = `image_size(pixel_mm)`. Slices of a volume are cut in
        the plane in which it was acquired.

    Raises:
        InvalidData: no readable image, or none that shows enough of a head.
    """
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    volumes = volume_files(folder)
    pictures = [p for p in paths if p.suffix.lower() in _SLICE_ENDINGS]
    if volumes:
        stacks = [_volume_slices(path, pixel_mm, intensity) for path in volumes]
    elif pictures:
        stacks = _pictures(pictures, pixel_mm, intensity)
    else:
        raise InvalidData(
            f"{folder} holds no images: volumes ({', '.join(READ_ENDINGS)}) or slices "
            f"({', '.join(_SLICE_ENDINGS)}) of the target are needed."
        )
    images = np.concatenate(stacks)
    images = images[(images > 0.03).mean(axis=(1, 2)) > _SMALLEST_HEAD]
    if not len(images):
        raise InvalidData(f"No slice of {folder} shows enough of a head to train on.")
    return torch.from_numpy(images)[:, None]


def _volume_slices(path: Path, pixel_mm: float, intensity: dict[str, object]) -> np.ndarray:
    """[S, H, W] in the plane of acquisition, H = W = `image_size(pixel_mm)`."""
    try:
        volume = read_volume(path)
        volume.check()
    except MIDiffusionError as error:
        raise InvalidData(f"{path.name} can't be trained on: {error}") from error
    mapping = intensity_map(intensity)
    data, _ = mapping.forward(volume.data)
    grid = SliceGrid.of(volume, pixel_mm, acquisition_plane(volume), 8)
    _check_extent(path, grid, pixel_mm)
    slices = grid.to_slices(data)
    if isinstance(mapping, HounsfieldIntensity):
        solid = float(mapping.forward(np.array(SOLID_HU))[0])
        slices = without_couch(torch.from_numpy(slices)[:, None], pixel_mm, solid)[:, 0].numpy()
    return _placed(slices, image_size(pixel_mm)).clip(0.0, 1.25)


def acquisition_plane(volume: Volume) -> str:
    """The plane across the axis of the largest spacing."""
    spacing = np.array(volume.spacing_mm)
    axis = volume.ijkToRAS[:3, int(spacing.argmax())]
    return _PLANES[int(np.abs(axis).argmax())]


def _check_extent(path: Path, grid: SliceGrid, pixel_mm: float) -> None:
    inside = (grid.rows.inside, grid.columns.inside)
    largest = max(part.stop - part.start for part in inside) * pixel_mm
    if largest > _LARGEST_MM:
        raise InvalidData(
            f"{path.name} measures {largest:.0f} mm in the plane of its slices: crop it to the "
            f"head ({_LARGEST_MM:.0f} mm at most)."
        )


def _pictures(paths: list[Path], pixel_mm: float, intensity: dict[str, object]) -> list[np.ndarray]:
    """Pictures by subject, the brightest 0.5 % of each subject's head at 1."""
    mapping = intensity_map(intensity)
    by_subject: dict[str, list[np.ndarray]] = {}
    for path in paths:
        subject = re.split(r"[_-][^_-]*$", path.stem)[0]
        placed = _placed(read_picture(path, "F")[None], image_size(pixel_mm))
        by_subject.setdefault(subject, []).append(placed)
    return [
        mapping.forward(np.concatenate(found))[0].clip(0.0, 1.25) for found in by_subject.values()
    ]


def _placed(slices: np.ndarray, size: int) -> np.ndarray:
    """[S, H, W] centred on size x size."""
    pads = []
    for extent in (slices.shape[2], slices.shape[1]):
        before = (size - extent) // 2
        pads += [before, size - extent - before]
    stack = torch.from_numpy(np.array(slices, dtype=np.float32))
    return F.pad(stack, pads).numpy()


def read_picture(path: Path, mode: str) -> np.ndarray:
    """Pixels in a mode of Pillow. Raises DependencyMissing and InvalidData."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DependencyMissing(
            "Reading pictures needs Pillow; install it with `pip install midiffusion[train]`."
        ) from None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise InvalidData(
            f"{path} cannot be read as an image ({error}); check the download."
        ) from error
