"""One synthetic volume against a real one of the same person: what the panel and the console show.

Figures are on the grid of the synthetic volume, to which the reference is resampled. Runs on numpy
and SimpleITK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from . import metrics
from .errors import InvalidVolume
from .images.intensity import HounsfieldIntensity, PercentileIntensity
from .images.volume import Volume

_WINDOW = 7  # pixels of the SSIM's
_LEAST_HEAD = 0.05  # share of a slice that must show the head
_HU_PER_UNIT = 3060.0
_FINEST = 4  # samples of the reference side by side in a voxel, at most


@dataclass(frozen=True)
class Comparison:
    """Figures inside the reference's head, averaged over axial slices.

    ssim: structural similarity. psnr: in dB. mae: mean absolute error in model units. mae_hu: the
    same in HU for CT, else None. mi: mutual information in nats. covered: share of the synthetic
    volume's head that lies inside the reference, 0 to 1.
    """

    ssim: float
    psnr: float
    mae: float
    mae_hu: float | None
    mi: float
    covered: float


def compare(
    synthetic: Volume,
    reference: Volume,
    intensity: PercentileIntensity | HounsfieldIntensity,
    on_slice: Callable[[int, int], object] = lambda done, of: None,
) -> Comparison:
    """Figures of `synthetic`, which a model with this intensity map made, against `reference`.

    Both are in their own units and placed by ijkToRAS. The synthetic volume comes to model units by
    its nominal scale, the reference once by its own (MR: a percentile inside its head; CT: HU);
    neither is fitted to the other. on_slice(done, of) is called while the reference is resampled;
    what it raises ends the comparison.

    Raises InvalidVolume where the volumes don't overlap or can't be compared.
    """
    synthetic.check()
    reference.check()
    if isinstance(intensity, HounsfieldIntensity):
        modality, data = "CT", intensity.forward(synthetic.data)[0]
    else:
        modality = "MR"
        data = np.asarray(synthetic.data, dtype=np.float32) / np.float32(intensity.unit)
    output = _axial(Volume(data, synthetic.ijkToRAS))
    height, width = output.data.shape[1:]
    if min(height, width) < _WINDOW:
        raise InvalidVolume(
            f"The result's axial slices have {width} x {height} voxels, and {_WINDOW} x {_WINDOW} "
            "are needed to compare them: translate a finer volume."
        )
    scaled = Volume(intensity.forward(reference.data)[0], reference.ijkToRAS)
    target, covered = _resampled(scaled, output, on_slice)
    head = _head_mask(target, modality) & covered
    rows = [
        _slice_figures(_clipped(output.data[s]), _clipped(target[s]), head[s])
        for s in np.flatnonzero(head.mean(axis=(1, 2)) >= _LEAST_HEAD)
    ]
    if not rows:
        raise InvalidVolume(
            "The reference and the result don't overlap where there is something to compare: "
            "choose a reference of the same person in the same position, or register it first."
        )
    figures = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return Comparison(
        **figures,
        mae_hu=figures["mae"] * _HU_PER_UNIT if modality == "CT" else None,
        covered=float(covered[_head_mask(output.data, modality)].mean()),
    )


def _clipped(image: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.clip(image, 0, 1).astype(np.float64)


def _slice_figures(
    output: NDArray[np.float64], target: NDArray[np.float64], head: metrics.Mask
) -> dict[str, float]:
    return {
        "ssim": float(metrics.ssim_map(output, target)[head].mean()),
        "psnr": metrics.psnr(metrics.mean_squared_error(output, target, head)),
        "mae": metrics.mean_absolute_error(output, target, head),
        "mi": metrics.mutual_information(output[head], target[head]),
    }


def _head_mask(target: NDArray[np.floating], modality: str) -> metrics.Mask:
    """CT: above -500 HU. MR: above 3 % of the 99.5th percentile of what is above 3 % of the
    maximum."""
    if modality == "CT":
        return target > (-500.0 + 1000.0) / _HU_PER_UNIT
    inside = target[target > 0.03 * target.max()]
    if not inside.size:
        return np.zeros(target.shape, dtype=bool)
    mask: metrics.Mask = target > 0.03 * np.percentile(inside, 99.5)
    return mask


def _axial(volume: Volume) -> Volume:
    """The same volume with its slices, the first axis of the data, along the axis nearest to the
    patient's."""
    axes = np.abs(volume.ijkToRAS[2, :3] / volume.spacing_mm)
    through = int(axes.argmax())  # of i, j, k
    order = [*(axis for axis in range(3) if axis != through), through]
    data = np.transpose(volume.data, [2 - axis for axis in reversed(order)])
    return Volume(data, volume.ijkToRAS[:, [*order, 3]], volume.modality)


def _resampled(
    volume: Volume, grid: Volume, on_slice: Callable[[int, int], object]
) -> tuple[NDArray[np.float32], metrics.Mask]:
    """`volume` on the grid of another one, float32 [S, H, W], and where it covers that grid.

    Linear interpolation at points that lie at most as far apart as the volume's own, and the mean
    of those in a voxel: a coarse grid sees an average and not a chance selection.
    """
    count = _points(volume, grid)
    step = np.diag([*(1.0 / count), 1.0])
    step[:3, 3] = (1.0 / count - 1.0) / 2.0
    slices, height, width = grid.data.shape
    ni, nj, nk = (int(n) for n in count)
    images = [image_of(volume), image_of(Volume(np.ones(volume.data.shape), volume.ijkToRAS))]
    found = [np.empty(grid.data.shape, np.float32) for _ in images]
    for s in range(slices):
        place = grid.ijkToRAS @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, s], [0, 0, 0, 1.0]])
        fine = Volume(np.empty((nk, height * nj, width * ni), np.float32), place @ step)
        target = image_of(fine)
        for image, stack in zip(images, found, strict=True):
            points = sitk.GetArrayFromImage(sitk.Resample(image, target))
            stack[s] = points.reshape(nk, height, nj, width, ni).mean(axis=(0, 2, 4))
        on_slice(s + 1, slices)
    return found[0], found[1] > 0.5


def image_of(volume: Volume) -> sitk.Image:
    """The volume as an image whose physical space is RAS: for resampling, never for files."""
    image = sitk.GetImageFromArray(np.asarray(volume.data, dtype=np.float32))
    image.SetSpacing(volume.spacing_mm)
    image.SetDirection((volume.ijkToRAS[:3, :3] / volume.spacing_mm).ravel().tolist())
    image.SetOrigin(volume.ijkToRAS[:3, 3].tolist())
    return image


def _points(volume: Volume, grid: Volume) -> np.ndarray:
    """How many points to take in a voxel of `grid` along its i, j and k."""
    to_volume = np.linalg.inv(volume.ijkToRAS[:3, :3]) @ grid.ijkToRAS[:3, :3]
    voxels = np.linalg.norm(to_volume, axis=0)  # of `volume` along an edge of the grid's voxel
    return np.clip(np.ceil(voxels - 1e-3), 1, _FINEST)
