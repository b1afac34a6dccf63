"""Real training images of the shipped targets as a plain folder of slices.

    midiffusion-research training-images --data DIR --target t1 --out DIR

Writes square 8-bit PNG at the model's pixel size (`--pixel-mm`), `<subject>_<number>.png`, which
`midiffusion train --target t1 --data DIR` reads. Only sets under permissive licences are used for
MR. Where a set gives no pixel size, heads are scaled to a length of 190 mm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidData
from midiffusion.images.grid import SliceGrid
from midiffusion.images.intensity import PercentileIntensity
from midiffusion.images.io import read_volume
from midiffusion.training.data import image_size
from PIL import Image

HEAD_MM, PIXEL_MM = 190.0, 190 / 114
_HEAD_PIXELS = 224 * 0.94  # heads fill the frame of these sets with a margin of 6 %
Slices = Iterator[tuple[str, np.ndarray]]


def _ixi(data: Path, target: str, pixel_mm: float) -> Slices:
    with np.load(data / "ixi_slices" / "ixi_slices.npz") as file:
        if target in file:
            for number, image in enumerate(file[target]):
                yield f"ixi{number:02}", _placed(image, 1.0, pixel_mm)


def _ms_mendeley(data: Path, target: str, pixel_mm: float) -> Slices:
    with np.load(data / "ms_mendeley_slices" / "ms_slices.npz") as file:
        if target in file:
            for image, patient in zip(file[target], file[f"{target}_patient"], strict=True):
                yield f"ms{int(patient):03}", _placed(image, HEAD_MM / _HEAD_PIXELS, pixel_mm)


def _tcga_gbm(data: Path, target: str, pixel_mm: float) -> Slices:
    for path in sorted((data / "tcga_gbm_slices").glob("*.npz")):
        with np.load(path) as file:
            if target in file:
                for image in file[target]:
                    placed = _placed(image, HEAD_MM / _HEAD_PIXELS, pixel_mm)
                    yield path.stem.replace("-", ""), placed


_VOLUMES = {"t1": ("arc_T1w2017_T1w", "nlab_T1w2mm_T1w"), "t2": ("arc_M2265_T2w",)}


def _volumes(data: Path, target: str, pixel_mm: float) -> Slices:
    for name in _VOLUMES.get(target, ()):
        volume = read_volume(data / "wholehead_volumes" / f"{name}.nii.gz")
        units, _ = PercentileIntensity().forward(volume.data)
        for plane in ("axial", "coronal", "sagittal"):
            grid = SliceGrid.of(volume, pixel_mm, plane, 16)
            slices = grid.to_slices(units)
            count = len(slices)
            low, high = (0.35, 0.97) if plane == "axial" else (0.2, 0.8)
            for image in slices[int(low * count) : int(high * count) : max(1, count // 60)]:
                yield name.replace("_", ""), _placed(image * 255, pixel_mm, pixel_mm)


SETS: tuple[Callable[[Path, str, float], Slices], ...] = (_ixi, _ms_mendeley, _tcga_gbm, _volumes)


def _placed(image: np.ndarray, from_mm: float, to_mm: float) -> np.ndarray:
    """Pixels of `from_mm` scaled to `to_mm`, centred on the side of the training images, uint8."""
    size, factor = image_size(to_mm), from_mm / to_mm
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))[None, None]
    if factor != 1:
        pixels = F.interpolate(pixels, scale_factor=factor, mode="bicubic", antialias=True)
    height, width = pixels.shape[2:]
    top, left = (size - height) // 2, (size - width) // 2
    placed = F.pad(pixels, (left, size - width - left, top, size - height - top))
    return placed[0, 0].clamp(0, 255).round().byte().numpy()


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research training-images", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the collections")
    parser.add_argument("--target", required=True, help="t1, t2, pd or flair")
    parser.add_argument("--pixel-mm", type=float, default=PIXEL_MM, help="of the model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the slices")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for collection in SETS:
        for subject, image in collection(options.data, options.target, options.pixel_mm):
            Image.fromarray(image).save(options.out / f"{subject}_{count:04}.png")
            count += 1
    if not count:
        raise InvalidData(f"{options.data} holds no images of '{options.target}'.")
    print(f"{options.out}: {count} slices")
    return 0
