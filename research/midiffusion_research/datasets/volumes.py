"""What the collections of volumes have in common: two volumes in, one subject's slices out.

Preprocessing, the same for all of them:

1. Model units: MR divided by the 99.5th percentile inside the head (or body) of that volume; CT
   (HU + 1000) / 3060. Nothing is scaled by the range of an output or a slice.
2. Slices along the axis of the reference volume that is nearest to the patient's, each at its own
   position, inferior to superior. In plane they are brought to 128 x 128 pixels of a fixed field
   round the middle of the tissue, row 0 anterior, column 0 the patient's right: linear
   interpolation to pixels at most as large as the reference's, then exact area averaging.
3. Slices are kept from the first to the last in which both volumes cover the tissue. Validation
   subjects keep all of them; training subjects every n-th, so that there are at most 20.
4. Head (or body) mask: the protocol's, confined to the largest piece of tissue and, for MR, its
   surroundings, so that neither noise in air nor the table counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from midiffusion.compare import image_of
from midiffusion.errors import InvalidData, MIDiffusionError
from midiffusion.images.intensity import HounsfieldIntensity, PercentileIntensity
from midiffusion.images.io import read_volume
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

from ..metrics import dilate, erode
from ..report import say
from .subject import FloatStack, MaskStack, Subject, area_average, head_mask

HEAD_MM = 240.0
SIZES = (128, 64)

_PIXELS = 128
_TRAINING_SLICES = 20
_VALIDATION_SHARE = 0.2
# In model units: clearly tissue in MR, above -510 HU in CT.
_TISSUE = 0.16
_CAVITY_MM, _RIM_MM = 8.0, 4.0
_LEAST_TISSUE = 0.01
_LEAST_COVERED = 0.95


def read(path: Path, modality: str) -> Volume:
    """A volume as stored, finite and on a regular grid; raises InvalidData naming the file."""
    try:
        volume = read_volume(path)
        volume.check()
    except MIDiffusionError as error:
        raise InvalidData(f"{path}: {error}") from error
    return Volume(volume.data, volume.ijkToRAS, modality)


def model_units(volume: Volume, inside: NDArray[np.bool_] | None = None) -> Volume:
    """The volume in model units, float32, step 1 of the module.

    inside: voxels among which the percentile of an MR volume is taken; None finds the head.
    """
    if volume.modality == "CT":
        data = HounsfieldIntensity().forward(volume.data)[0]
    elif inside is None:
        data = PercentileIntensity().forward(volume.data)[0]
    else:
        values = np.asarray(volume.data, dtype=np.float32)
        data = values / np.float32(np.percentile(values[inside], PercentileIntensity().percentile))
    return Volume(data, volume.ijkToRAS, volume.modality)


def in_part(ids: Iterable[str], split: str) -> list[str]:
    """The ids of `split` ("train" or "val"), sorted.

    For collections of any size: validation takes the ids whose SHA-256, read as a fraction, is
    below 0.2, or, where there is none, the id with the smallest. It depends on the id alone, so an
    incomplete copy of a collection moves nobody across the line.
    """
    ranked = sorted(set(ids), key=_fraction)
    val = [subject for subject in ranked if _fraction(subject) < _VALIDATION_SHARE] or ranked[:1]
    return sorted(val if split == "val" else set(ranked) - set(val))


def _fraction(subject: str) -> float:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") / 2.0**64


def each(name: str, ids: Sequence[str], make: Callable[[str], Subject]) -> list[Subject]:
    """`make` for every id, with progress on stderr."""
    subjects = []
    for number, subject in enumerate(ids, start=1):
        subjects.append(make(subject))
        say(f"{name}: {number} of {len(ids)} subjects read", last=number == len(ids))
    return subjects


@dataclass(frozen=True, eq=False)
class AxialGrid:
    """Square axial slices over a reference volume; `matrix` maps (column, row, slice, 1) of the
    fine pixels, `shrink` of which side by side make one of the 128, to RAS in mm."""

    matrix: NDArray[np.float64]
    slices: int
    shrink: int

    @classmethod
    def of(cls, reference: Volume, field_mm: float | None) -> AxialGrid:
        """field_mm: side of the field round the middle of the tissue; None: all of the reference.

        reference: in model units.
        """
        axes = reference.ijkToRAS[:3, :3] / reference.spacing_mm
        through = int(np.abs(axes[2]).argmax())
        first, second = (axis for axis in range(3) if axis != through)
        down, across = (
            (first, second) if abs(axes[1, first]) > abs(axes[1, second]) else (second, first)
        )
        order = (across, down, through)
        towards = np.diag([-1.0, -1.0, 1.0])  # the patient's left, posterior, superior
        signs = np.array([np.sign(towards[n, n] * axes[n, axis]) for n, axis in enumerate(order)])
        shape = np.array(reference.data.shape[::-1])
        spacing = np.array(reference.spacing_mm)
        if field_mm is None:
            field_mm = float((shape * spacing)[[across, down]].max())
            middle = (shape - 1) / 2
        else:
            middle = _middle(reference.data > _TISSUE)
        pixel = field_mm / _PIXELS
        shrink = max(1, int(np.ceil(pixel / spacing[[across, down]].min() - 1e-3)))
        fine = pixel / shrink
        corner = middle.copy()
        for n, axis in enumerate(order[:2]):
            reach = (_PIXELS * shrink - 1) / 2 * fine / spacing[axis]
            # On a voxel of the reference: pixels of its own size then need no interpolation.
            corner[axis] = round(middle[axis] - signs[n] * reach)
        corner[through] = 0 if signs[2] > 0 else shape[through] - 1
        matrix = np.eye(4)
        matrix[:3, :3] = axes[:, order] * signs * [fine, fine, spacing[through]]
        matrix[:3, 3] = (reference.ijkToRAS @ [*corner, 1.0])[:3]
        return cls(matrix, int(shape[through]), shrink)

    def sample(self, volume: Volume) -> FloatStack:
        """The volume on the grid, [S, 128, 128]; 0 where it does not reach."""
        side = _PIXELS * self.shrink
        steps = np.linalg.norm(self.matrix[:3, :3], axis=0)
        sampled = sitk.Resample(
            image_of(volume),
            (side, side, self.slices),
            sitk.Transform(),
            sitk.sitkLinear,
            self.matrix[:3, 3].tolist(),
            steps.tolist(),
            (self.matrix[:3, :3] / steps).ravel().tolist(),
            0.0,
            sitk.sitkFloat32,
        )
        return area_average(sitk.GetArrayFromImage(sampled), _PIXELS)

    def geometry(self, first: int, stride: int) -> NDArray[np.float64]:
        """ijkToRAS of every `stride`-th of the sampled slices from `first` on."""
        step = np.diag([self.shrink, self.shrink, stride, 1.0])
        step[:3, 3] = (self.shrink - 1) / 2, (self.shrink - 1) / 2, first
        return self.matrix @ step


def _middle(tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The middle of the tissue's extent as (i, j, k), its outermost 1 % on either side apart."""
    if not tissue.any():
        return (np.array(tissue.shape[::-1]) - 1) / 2
    places = np.nonzero(tissue)
    return np.array([np.percentile(place, (1, 99)).mean() for place in places[::-1]])


def paired(
    subject: str,
    source: Volume,
    target: Volume,
    reference: Volume,
    *,
    split: str,
    field_mm: float | None,
    mask: Volume | None = None,
) -> Subject:
    """Steps 2 to 4 of the module for two aligned volumes in model units.

    reference: the one of the two whose slices are taken. mask: 1 where the collection says that
    there is something to score, else 0. Raises InvalidData where the two do not overlap.
    """
    grid = AxialGrid.of(reference, field_mm)
    pair = [grid.sample(volume) for volume in (source, target)]
    covered = [grid.sample(_ones(volume)) > 0.5 for volume in (source, target)]
    tissue = (pair[0] > _TISSUE) | (pair[1] > _TISSUE)
    amount = tissue.sum(axis=(1, 2))
    inside = (tissue & covered[0] & covered[1]).sum(axis=(1, 2))
    enough = (amount >= _LEAST_TISSUE * _PIXELS**2) & (inside >= _LEAST_COVERED * amount)
    kept = np.flatnonzero(enough)
    if not kept.size:
        raise InvalidData(
            f"{source.modality} and {target.modality} of {subject} have no slice in common that "
            "shows tissue: check that the files belong together and that their headers do."
        )
    first, count = int(kept[0]), int(kept[-1] - kept[0] + 1)
    head = _head(pair[1], target.modality, grid)
    if mask is not None:
        head &= grid.sample(mask) >= 0.5
    stride = 1 if split == "val" else -(-count // _TRAINING_SLICES)
    first += (count - 1) % stride // 2
    rows = slice(first, int(kept[-1]) + 1, stride)
    return Subject(
        id=subject,
        source=Volume(pair[0][rows], grid.geometry(first, stride), source.modality),
        target=pair[1][rows],
        head=head[rows],
        contiguous=stride == 1,
        target_modality=target.modality,
    )


def _ones(volume: Volume) -> Volume:
    return Volume(np.ones(volume.data.shape, np.float32), volume.ijkToRAS)


def _head(target: FloatStack, modality: str, grid: AxialGrid) -> MaskStack:
    mask = head_mask(target, modality)
    if modality == "CT":
        return mask & _largest(mask)
    pixel_mm = float(np.linalg.norm(grid.matrix[:3, 0])) * grid.shrink
    cavity, rim = (round(length / pixel_mm) for length in (_CAVITY_MM, _RIM_MM))
    return mask & erode(dilate(_largest(target > _TISSUE), cavity), cavity - rim)


def _largest(mask: MaskStack) -> MaskStack:
    """The largest connected piece."""
    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))
    ranked = sitk.RelabelComponent(pieces, sortByObjectSize=True)
    return np.asarray(sitk.GetArrayViewFromImage(ranked) == 1)
