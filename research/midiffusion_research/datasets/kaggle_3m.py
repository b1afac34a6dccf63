"""TCGA-LGG in the layout of "LGG MRI Segmentation": T1 and FLAIR of heads with glioma.

Layout: `kaggle_3m/<patient>/<patient>_<i>.tif` with the channels T1 before contrast, FLAIR, T1
after contrast, 8 bit, and `<patient>_<i>_mask.tif` (tumour 255). Where a sequence was missing the
set repeats FLAIR in its place; the frozen split has no such patient, and one is refused.

Preprocessing: model units by the 99.5th percentile inside the head, per patient and channel. One
square crop per patient round the head (above 5 % of one unit in either channel, its outermost 0.5 %
of pixels apart) with a twentieth to spare on each side, averaged down to 128 pixels by area. There
is no voxel size: the head counts as 190 mm long. Slices in the order of <i>, inferior to superior,
row 0 anterior; up to 20, evenly spaced, as in the compact form (`tcga_lgg`), so no flicker figure.

Data: The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2016.L4LTD3TK (CC BY 3.0), as packaged in
"LGG MRI Segmentation" (CC BY-NC-SA 4.0), Buda et al., Comput Biol Med 2019;109:218.
Split: by patient, `training/splits.json`; patients that it does not name are not used.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from midiffusion.errors import InvalidData
from midiffusion.images.intensity import PercentileIntensity
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

from midiffusion_research.datasets.collections import frozen_split

from .sprites import radiological
from .subject import Subject, area_average, chosen, head_mask
from .volumes import SIZES, each

name = "kaggle-3m"
training = name
directions = ("t1:flair", "flair:t1")
bundles = {"t1": "t1", "flair": "flair"}
sizes = SIZES

_CHANNELS = {"t1": 0, "flair": 1}
_PIXELS = 128
_MOST_SLICES = 20
_HEAD_ABOVE, _STRAY, _MARGIN, _HEAD_MM = 0.05, 0.5, 1.1, 190.0


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the patients' folders, or a folder `kaggle_3m` that does."""
    source, target = chosen(direction, directions, name)
    ids = dict(zip(("train", "val"), frozen_split("tcga_lgg"), strict=True))[split]
    folder = root / "kaggle_3m" if (root / "kaggle_3m").is_dir() else root
    missing = [patient for patient in ids if not (folder / patient).is_dir()]
    if missing:
        raise InvalidData(
            f"{folder} lacks {len(missing)} of the {len(ids)} {split} patients' folders, for "
            f"example {missing[0]}; give the folder kaggle_3m as --data."
        )
    return each(name, ids[:most], lambda patient: _subject(folder / patient, source, target))


def _subject(folder: Path, source: str, target: str) -> Subject:
    slices, tumour = _stack(folder)
    if np.array_equal(slices[..., 0], slices[..., 1]):
        raise InvalidData(f"{folder} has no T1: its channel repeats FLAIR; leave it out.")
    units = {
        key: PercentileIntensity().forward(slices[..., channel])[0]
        for key, channel in _CHANNELS.items()
    }
    top, left, side, length = _square(np.maximum(units["t1"], units["flair"]) > _HEAD_ABOVE)
    kept = np.unique(np.linspace(0, len(slices) - 1, _MOST_SLICES).round().astype(int))

    def cut(stack: NDArray[np.generic]) -> NDArray[np.float32]:
        around = np.pad(stack[kept], ((0, 0), (side, side), (side, side)))
        window = around[:, top + side : top + 2 * side, left + side : left + 2 * side]
        return area_average(window, _PIXELS)

    wanted = cut(units[target])
    return Subject(
        id=folder.name,
        source=Volume(
            cut(units[source]),
            radiological(_HEAD_MM / length * side / _PIXELS),
            source.upper(),
        ),
        target=wanted,
        head=head_mask(wanted, target.upper()),
        tumour=cut(tumour) >= 0.5,
        target_modality=target.upper(),
    )


def _square(head: NDArray[np.bool_]) -> tuple[int, int, int, float]:
    """First row, first column and side of the crop, and the head's length in rows."""
    if not head.any():
        return 0, 0, max(_PIXELS, *head.shape[1:]), float(head.shape[1])
    (low_row, high_row), (low_column, high_column) = (
        np.percentile(place, (_STRAY, 100 - _STRAY)) + (0, 1) for place in np.nonzero(head)[1:]
    )
    length, width = high_row - low_row, high_column - low_column
    side = max(_PIXELS, round(max(length, width) * _MARGIN))
    top = round((low_row + high_row - side) / 2)
    left = round((low_column + high_column - side) / 2)
    return top, left, side, float(length)


def _stack(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Slices [S, H, W, 3] and tumour masks [S, H, W] in the order of their numbers."""
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)\.tif")
    numbers = sorted(int(m[1]) for p in folder.iterdir() if (m := pattern.fullmatch(p.name)))
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise InvalidData(
            f"{folder} should hold {folder.name}_<i>.tif for every i, and holds {len(numbers)} of "
            f"{numbers[-1] if numbers else 'them'}; unpack this patient in full."
        )
    images = [_picture(folder / f"{folder.name}_{n}.tif", 3) for n in numbers]
    masks = [_picture(folder / f"{folder.name}_{n}_mask.tif", 1) for n in numbers]
    shapes = {image.shape[:2] for image in images} | {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise InvalidData(f"The pictures of {folder} differ in size: {sorted(shapes)}.")
    return np.stack(images), np.stack(masks) > 127


def _picture(path: Path, channels: int) -> NDArray[np.uint8]:
    if not path.is_file():
        raise InvalidData(f"{path} is missing; unpack this patient in full.")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InvalidData(f"{path} can't be read as a picture; unpack it again.") from error
    data = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != channels or image.GetDimension() != 2:
        raise InvalidData(
            f"{path} has {image.GetNumberOfComponentsPerPixel()} channels where {channels} are "
            "needed."
        )
    if data.dtype != np.uint8:
        raise InvalidData(f"{path} has values of type {data.dtype} where 8 bit are needed.")
    return data
