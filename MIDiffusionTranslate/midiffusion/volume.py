"""A scalar volume with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InvalidVolume

# Cosine between two axes above which a volume counts as sheared (0.06 degrees): files that store
# directions in float32 stay well below it, a tilted gantry is far above it.
_SHEAR = 1e-3
# Below this, in mm, an axis has no extent that could be measured.
_MIN_SPACING = 1e-6
# Squares of values beyond this leave float32.
_MAX_VALUE = 1e18


@dataclass(frozen=True, eq=False)
class Volume:
    """Values and geometry of one scalar volume.

    data: [k, j, i], any real number type, in the units of its modality.
    ijkToRAS: float64 4x4, maps (i, j, k, 1) to RAS in mm (centres of voxels).
    modality: free text such as "MR" or "CT"; "" where it is not known.
    """

    data: np.ndarray
    ijkToRAS: np.ndarray
    modality: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", np.asarray(self.data))
        object.__setattr__(self, "ijkToRAS", np.asarray(self.ijkToRAS, dtype=np.float64))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j and k in mm."""
        si, sj, sk = np.linalg.norm(self.ijkToRAS[:3, :3], axis=0)
        return float(si), float(sj), float(sk)

    def check(self) -> None:
        """Raises InvalidVolume, with a sentence of its own for each reason, unless the volume can
        be computed with."""
        self._check_values()
        self.check_geometry()

    def check_source(self) -> None:
        """As `check`, and InvalidVolume for a mask: a user's source shows more than two values."""
        self.check()
        low, high = self.data.min(), self.data.max()
        some = self.data.reshape(-1)[:: self.data.size // 10_000 | 1]  # tells it of any scan
        if all(((part == low) | (part == high)).all() for part in (some, self.data)):
            raise InvalidVolume(
                f"The volume has two values only, {float(low):g} and {float(high):g}: that is a "
                "mask, choose the scan that it was made of."
            )

    def _check_values(self) -> None:
        shape = " x ".join(str(n) for n in self.data.shape)
        if self.data.ndim != 3:
            raise InvalidVolume(
                f"The volume has {self.data.ndim} dimensions ({shape}) where 3 are needed: choose "
                "one scalar volume, not a time series or a colour image."
            )
        if self.data.size == 0:
            raise InvalidVolume(f"The volume is empty ({shape} voxels): load or choose another.")
        if self.data.dtype.kind not in "buif":
            raise InvalidVolume(
                f"The volume's values are of type {self.data.dtype}, which are not real numbers: "
                "convert it to a scalar volume."
            )
        low, high = self.data.min(), self.data.max()  # NaN, if any, comes out in both
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InvalidVolume(
                "The volume contains NaN or infinite values: replace them with the value of air."
            )
        if max(abs(float(low)), abs(float(high))) > _MAX_VALUE:
            raise InvalidVolume(
                f"The volume's values reach {max(abs(float(low)), abs(float(high))):.0e}, which is "
                "too large to compute with: rescale its intensities."
            )
        if low == high:
            raise InvalidVolume(
                f"The volume is constant (every voxel is {float(low):g}): there is nothing to "
                "translate, choose a volume that shows anatomy."
            )

    def check_geometry(self) -> None:
        """The part of `check` that concerns ijkToRAS."""
        matrix = self.ijkToRAS
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
        if min(self.spacing_mm) < _MIN_SPACING:
            spacing = " x ".join(f"{s:g}" for s in self.spacing_mm)
            raise InvalidVolume(
                f"The volume's spacing is {spacing} mm: each axis needs a spacing above zero, "
                "correct it in the volume's properties."
            )
        axes = matrix[:3, :3] / self.spacing_mm
        shear = np.abs(axes.T @ axes - np.eye(3)).max()
        if shear > _SHEAR:
            raise InvalidVolume(
                "The volume's axes are sheared (not at right angles, as with a tilted CT gantry): "
                "resample it to a regular grid first."
            )
