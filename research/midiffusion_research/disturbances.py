"""What can be wrong with a source, done to a good one in known doses.

Two kinds. *Values*: the same anatomy on the same grid, acquired worse or otherwise. *Views*: the
same picture on another grid, turned, cut or stripped, which the target and a result can follow, so
that a result from the disturbed source is compared with what it should show. All act on sources in
model units (air 0; MR: 99.5th percentile inside the head 1; CT: (HU + 1000) / 3060), and nothing
here is shared with the augmentation in training but the purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from midiffusion.images.grid import resampling_matrix
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

Stack = NDArray[np.float32]
View = Callable[[Volume], Volume]

# Model units: above it is the head, in any modality (CT: -490 HU).
_HEAD_ABOVE = 1 / 6


@dataclass(frozen=True)
class Disturbance:
    """One of `values` (source, random numbers -> its new values) and `view` (source -> the view of
    it and of all that belongs to it).

    mr_only: without meaning in Hounsfield units. volumes_only: needs neighbouring slices.
    takes_brightest: the view lacks the bright end of the head, by which MR has its scale.
    """

    values: Callable[[Volume, np.random.Generator], Stack] | None = None
    view: Callable[[Volume], View] | None = None
    mr_only: bool = False
    volumes_only: bool = False
    takes_brightest: bool = False

    def suits(self, modality: str, contiguous: bool) -> bool:
        """Whether it can be done to a source of this modality, a stack of neighbours or not."""
        return not (self.mr_only and modality == "CT") and (contiguous or not self.volumes_only)


def bias_field(reach: float) -> Callable[[Volume, np.random.Generator], Stack]:
    """Times a random second-degree polynomial of the place, in the exponent, -reach to reach."""

    def values(source: Volume, random: np.random.Generator) -> Stack:
        z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in source.data.shape), indexing="ij")
        terms = (x, y, z, x * x, y * y, x * y)
        field = sum(a * term for a, term in zip(random.standard_normal(6), terms, strict=True))
        low, high = float(np.min(field)), float(np.max(field))
        return _stack(source.data * np.exp(reach * (2 * (field - low) / (high - low) - 1)))

    return values


def noise(mr: float, ct: float) -> Callable[[Volume, np.random.Generator], Stack]:
    """Rician in MR (Gudbjartsson and Patz, Magn Reson Med 1995;34:910), Gaussian in CT; standard
    deviations in model units."""

    def values(source: Volume, random: np.random.Generator) -> Stack:
        real, imaginary = random.standard_normal((2, *source.data.shape))
        if source.modality == "CT":
            return _stack(source.data + ct * real)
        return _stack(np.hypot(source.data + mr * real, mr * imaginary))

    return values


def lower_contrast(kept: float) -> Callable[[Volume, np.random.Generator], Stack]:
    """Inside the head only this share of the distance from the head's median is left."""

    def values(source: Volume, _: np.random.Generator) -> Stack:
        tissue = _tissue(source)
        middle = np.median(source.data[tissue])
        return _stack(np.where(tissue, middle + kept * (source.data - middle), source.data))

    return values


def inverted(source: Volume, _: np.random.Generator) -> Stack:
    """Inside the head bright becomes dark; the air stays dark."""
    tissue = _tissue(source)
    low, high = np.percentile(source.data[tissue], (0.5, 99.5))
    turned = (low + high - source.data).clip(low, high)
    return _stack(np.where(tissue, turned, source.data))


def gamma(power: float) -> Callable[[Volume, np.random.Generator], Stack]:
    """Every value to this power."""
    return lambda source, _: _stack(np.asarray(source.data).clip(min=0) ** power)


def blurred(mm: float) -> Callable[[Volume, np.random.Generator], Stack]:
    """In plane, by a Gaussian with this standard deviation, millimetres."""

    def values(source: Volume, _: np.random.Generator) -> Stack:
        x_mm, y_mm, _z = source.spacing_mm
        _, height, width = source.data.shape
        rows, columns = _gaussian(height, mm / y_mm), _gaussian(width, mm / x_mm)
        return _stack(rows @ source.data @ columns.T)

    return values


def thick(axis: int, mm: float) -> Callable[[Volume, np.random.Generator], Stack]:
    """As slices of this thickness across an axis of the data, interpolated back to its grid: 0 for
    axial slices, 1 for coronal, 2 for sagittal ones (where the slices themselves are axial)."""

    def values(source: Volume, _: np.random.Generator) -> Stack:
        count, step = source.data.shape[axis], source.spacing_mm[2 - axis]
        fewer = max(1, round(count * step / mm))
        there = resampling_matrix(count, step, fewer, count * step / fewer)
        back = resampling_matrix(fewer, count * step / fewer, count, step)
        moved = np.moveaxis(np.asarray(source.data), axis, 0)
        return _stack(np.moveaxis(np.tensordot(back @ there, moved, 1), 0, axis).clip(min=0))

    return values


def pixels(mm: float) -> Callable[[Volume], View]:
    """In-plane pixels of this size, millimetres."""

    def view(volume: Volume) -> Volume:
        x_mm, y_mm, _ = volume.spacing_mm
        _, height, width = volume.data.shape
        tall, wide = round(height * y_mm / mm), round(width * x_mm / mm)
        rows = resampling_matrix(height, y_mm, tall, height * y_mm / tall)
        columns = resampling_matrix(width, x_mm, wide, width * x_mm / wide)
        step = np.diag([width / wide, height / tall, 1.0, 1.0])
        step[:2, 3] = (width / wide - 1) / 2, (height / tall - 1) / 2
        data = _stack((rows @ volume.data @ columns.T).clip(min=0))
        return Volume(data, volume.ijkToRAS @ step, volume.modality)

    return lambda source: view


def turned(degrees: float) -> Callable[[Volume], View]:
    """In plane, by cubic interpolation, as a head lies that was turned aside."""

    def view(volume: Volume) -> Volume:
        import SimpleITK as sitk

        x_mm, y_mm, _ = volume.spacing_mm

        def one(data: NDArray[np.generic]) -> Stack:
            image = sitk.GetImageFromArray(np.asarray(data, dtype=np.float32))
            image.SetSpacing((x_mm, y_mm))
            middle = [(n - 1) / 2 * mm for n, mm in zip(image.GetSize(), (x_mm, y_mm), strict=True)]
            turn = sitk.Euler2DTransform(middle, np.deg2rad(degrees))
            return np.asarray(
                sitk.GetArrayFromImage(sitk.Resample(image, turn, sitk.sitkBSpline, 0.0))
            )

        data = np.stack([one(data) for data in volume.data]).clip(min=0)
        return Volume(data, volume.ijkToRAS, volume.modality)

    return lambda source: view


def clipped(front: float, side: float) -> Callable[[Volume], View]:
    """Without these shares of the head's length in front and of its width on one side."""

    def of(source: Volume) -> View:
        inside: NDArray[np.bool_] = np.any(source.data > _HEAD_ABOVE, axis=0)
        rows, columns = (np.flatnonzero(np.any(inside, axis=axis)) for axis in (1, 0))
        top = rows[0] + round(front * len(rows)) if len(rows) else 0
        left = columns[0] + round(side * len(columns)) if len(columns) else 0

        def view(volume: Volume) -> Volume:
            step = np.eye(4)
            step[:2, 3] = left, top
            data = np.ascontiguousarray(volume.data[:, top:, left:])
            return Volume(data, volume.ijkToRAS @ step, volume.modality)

        return view

    return of


def extracted(depth_mm: float) -> Callable[[Volume], View]:
    """Without what lies less than this below the surface of the head, slice by slice: a stand-in
    for a brain mask where the depth is that of scalp and skull."""

    def of(source: Volume) -> View:
        import SimpleITK as sitk

        x_mm, y_mm, _ = source.spacing_mm

        def deep(data: NDArray[np.float32]) -> NDArray[np.bool_]:
            image = sitk.GetImageFromArray((data > _HEAD_ABOVE).astype(np.uint8))
            parts = sitk.RelabelComponent(sitk.ConnectedComponent(image))
            head = sitk.BinaryFillhole(sitk.Cast(parts == 1, sitk.sitkUInt8))
            head.SetSpacing((x_mm, y_mm))
            inwards = sitk.SignedMaurerDistanceMap(
                head, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
            )
            return np.asarray(sitk.GetArrayFromImage(inwards) > depth_mm)

        mask = np.stack([deep(data) for data in source.data])

        def view(volume: Volume) -> Volume:
            return Volume(_stack(volume.data * mask), volume.ijkToRAS, volume.modality)

        return view

    return of


def _tissue(source: Volume) -> NDArray[np.bool_]:
    """Above 3 % of the range: not air."""
    return np.asarray(source.data > 0.03)


def _gaussian(count: int, sd: float) -> NDArray[np.float64]:
    """[count, count], rows summing to 1: what lies beyond the ends does not count."""
    place = np.arange(count)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * sd * sd))
    blur: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return blur


def _stack(data: NDArray[np.generic]) -> Stack:
    return np.ascontiguousarray(data, dtype=np.float32)


DISTURBANCES: dict[str, Disturbance] = {
    "bias field, 0.8 to 1.2 times": Disturbance(bias_field(0.2), mr_only=True),
    "bias field, 0.5 to 2 times": Disturbance(bias_field(0.7), mr_only=True),
    "noise, 3 % (CT 30 HU)": Disturbance(noise(0.03, 0.01)),
    "noise, 10 % (CT 90 HU)": Disturbance(noise(0.10, 0.03)),
    "contrast 0.4 times": Disturbance(lower_contrast(0.4), mr_only=True),
    "inverted": Disturbance(inverted, mr_only=True),
    "gamma 0.5": Disturbance(gamma(0.5), mr_only=True),
    "gamma 2": Disturbance(gamma(2.0), mr_only=True),
    "blurred, 1.5 mm": Disturbance(blurred(1.5)),
    "blurred, 3 mm": Disturbance(blurred(3.0)),
    "axial slices of 9 mm": Disturbance(thick(0, 9.0), volumes_only=True),
    "coronal slices of 5 mm": Disturbance(thick(1, 5.0)),
    "sagittal slices of 5 mm": Disturbance(thick(2, 5.0)),
    "pixels of 1 mm": Disturbance(view=pixels(1.0)),
    "pixels of 3 mm": Disturbance(view=pixels(3.0)),
    "turned by 10 degrees": Disturbance(view=turned(10.0)),
    "turned by 25 degrees": Disturbance(view=turned(25.0)),
    "a fifth cut off in front and at one side": Disturbance(view=clipped(0.2, 0.2)),
    "without scalp and skull": Disturbance(view=extracted(12.0), takes_brightest=True),
}
