"""Where voxels lie: the two matrices of a NIfTI header, and what a volume's axes can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidVolume

if TYPE_CHECKING:
    from .volume import Volume

# Cosine between two axes above which a volume counts as sheared (0.06 degrees): directions stored
# in float32 or with three decimals stay below it, a tilted gantry is far above it.
_SHEAR = 1e-3
# Volume of the parallelepiped of unit axes: 70 degrees away from a right angle.
_FLATTEST = 0.34
# Below this, in mm, an axis has no extent that could be measured.
_MIN_SPACING = 1e-6
# In mm. A body is longer than this in one direction only.
_WIDEST = 800.0


@dataclass(frozen=True)
class NiftiGeometry:
    """The fields of a NIfTI header that place a volume, as stored, in units of the file.

    quaternion: b, c, d and the offsets of the qform; handedness: 1 or -1 (qfac). spacing: pixdim[1]
    to [3], without sign, 0 where it is not a number. sform: three rows of four. units: xyzt_units.
    """

    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    handedness: float
    spacing: tuple[float, ...]
    sform: tuple[float, ...]
    units: int = 2
    mm_per_unit: float = 1.0

    @staticmethod
    def of(volume: Volume) -> NiftiGeometry:
        """Both matrices from `ijkToRAS`, as scanner coordinates. A qform can't be sheared, so that
        of a sheared volume has the code 0, which hides it from viewers."""
        matrix = volume.ijkToRAS
        spacing = np.array(volume.spacing_mm)
        left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
        turn = left @ right  # the rotation nearest to the axes
        handedness = 1.0 if np.linalg.det(turn) > 0 else -1.0
        turn[:, 2] *= handedness
        offsets = tuple(matrix[:3, 3].tolist())
        return NiftiGeometry(
            qform_code=0 if is_sheared(matrix) else 1,
            sform_code=1,
            quaternion=(*_quaternion(turn), *offsets),
            handedness=handedness,
            spacing=tuple(spacing.tolist()),
            sform=tuple(matrix[:3].ravel().tolist()),
        )

    def matrix(self, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
        """(ijkToRAS in mm, whether the header says where the volume lies). shape: k, j, i.

        The sform decides where its code is above 0 and it has three axes, else the qform. Without
        either the axes run to the left, anterior and superior about the middle of the volume.
        """
        placed, made = True, np.eye(4)
        sform = np.reshape(self.sform, (3, 4))
        if self.sform_code > 0 and (self.qform_code <= 0 or _has_axes(sform[:, :3])):
            made[:3] = sform
        elif self.qform_code > 0:
            made[:3, :3] = self._turn() * (np.array(self.spacing) * (1, 1, self.handedness))
            made[:3, 3] = self.quaternion[3:]
        else:
            placed = False
            made[:3, :3] = np.diag(np.array(self.spacing) * (-1, 1, 1))
            made[:3, 3] = -made[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
        made[:3] *= self.mm_per_unit
        return made, placed

    def written_spacing(self) -> tuple[float, ...]:
        """`spacing` as it is, as the qform needs it; but without a qform, and where a number is
        missing, the lengths of the sform's axes."""
        lengths = np.linalg.norm(np.reshape(self.sform, (3, 4))[:, :3], axis=0)
        if self.sform_code <= 0 or not np.isfinite(lengths).all():
            return self.spacing
        stored = np.array(self.spacing)
        kept = (stored > 0) & (self.qform_code > 0)
        return tuple(np.where(kept, stored, lengths).tolist())

    def _turn(self) -> np.ndarray:
        """Rotation matrix of the quaternion (a, b, c, d) of length 1 with a >= 0."""
        vector = np.array(self.quaternion[:3])
        rest = 1 - float(vector @ vector)
        if rest < 1e-7:  # rounded: half a turn
            vector, rest = vector / np.linalg.norm(vector), 0.0
        (b, c, d), a = vector, np.sqrt(rest)
        return np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )


def _quaternion(turn: np.ndarray) -> tuple[float, float, float]:
    """b, c and d of a rotation matrix, with a >= 0: the eigenvector of the largest eigenvalue of a
    symmetric matrix (Bar-Itzhack, J Guid Control Dyn 23(6), 2000), exact for any angle."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = turn.ravel()
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    a, b, c, d = np.linalg.eigh(symmetric)[1][:, -1].tolist()
    sign = -1.0 if a < 0 else 1.0
    return sign * b, sign * c, sign * d


def _has_axes(axes: np.ndarray) -> bool:
    return bool(np.isfinite(axes).all() and np.linalg.norm(axes, axis=0).min() > _MIN_SPACING)


def unit_axes(matrix: np.ndarray) -> np.ndarray:
    """Directions of i, j and k in RAS as columns, [3, 3]."""
    axes: np.ndarray = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return axes


def is_sheared(matrix: np.ndarray) -> bool:
    """Whether the axes of an ijkToRAS are not at right angles (a tilted gantry, an affine
    transform)."""
    axes = unit_axes(matrix)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR)


def slice_axis(matrix: np.ndarray, shape: tuple[int, ...], ratio: float = 1.0) -> int:
    """The axis (0 i, 1 j, 2 k) across which a volume was acquired slice by slice.

    The axis of the largest spacing if this exceeds `ratio` times the smallest, else of the fewest
    voxels. Of a sheared volume only an axis counts whose two others are nearest to a right angle:
    a gantry that tilts leaves two of them. shape: k, j, i.
    """
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = unit_axes(matrix)
    cosines = np.array([abs(axes[:, (n + 1) % 3] @ axes[:, (n + 2) % 3]) for n in range(3)])
    counts = cosines <= cosines.min() + _SHEAR if is_sheared(matrix) else np.ones(3, bool)
    by = spacing if spacing.max() > ratio * spacing.min() else -np.array(shape[::-1])
    return int(np.argmax(np.where(counts, by, -np.inf)))


def check_geometry(matrix: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises InvalidVolume unless an ijkToRAS has three axes of a size that anatomy can have.
    shape: k, j, i."""
    if matrix.shape != (4, 4):
        raise InvalidVolume(
            f"The volume's geometry is a matrix of shape {matrix.shape}, not 4 x 4: pass the "
            "matrix that maps voxel indices to RAS."
        )
    if not np.isfinite(matrix).all():
        raise InvalidVolume(
            "The volume's geometry contains NaN or infinite numbers: correct its origin, "
            "spacing and directions."
        )
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise InvalidVolume(
            "The volume's geometry is not affine (its last row is not 0 0 0 1): resample the "
            "volume to a regular grid."
        )
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if spacing.min() < _MIN_SPACING:
        raise InvalidVolume(
            f"The volume's spacing is {' x '.join(f'{s:g}' for s in spacing)} mm: each axis needs "
            "a spacing above zero, correct it in the volume's properties."
        )
    if abs(np.linalg.det(unit_axes(matrix))) < _FLATTEST:
        raise InvalidVolume(
            "The volume's axes lie almost in one plane: correct its directions, or resample it to "
            "a regular grid."
        )
    extent = spacing * shape[::-1]
    if len(shape) == 3 and np.sort(extent)[1] > _WIDEST:
        raise InvalidVolume(
            f"The volume measures {' x '.join(f'{e:.0f}' for e in extent)} mm, more than any "
            "anatomy: correct its spacing (is it in another unit than mm?)."
        )
