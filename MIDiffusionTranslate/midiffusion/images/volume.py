"""A scalar volume with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidVolume
from .placement import NiftiGeometry, check_geometry

if TYPE_CHECKING:
    from .dicom_reading import DicomSource

# Squares of values beyond this leave float32.
_MAX_VALUE = 1e18


@dataclass(frozen=True, eq=False)
class Volume:
    """Values and geometry of one scalar volume.

    data: [k, j, i], any real number type, in the units of its modality.
    ijkToRAS: float64 4x4, maps (i, j, k, 1) to RAS in mm (centres of voxels).
    modality: free text such as "MR" or "CT"; "" where it is not known.
    geometry: the header of a NIfTI source, whose matrices a result is written with; None elsewhere.
    dicom: what a result takes over from a DICOM source; None elsewhere.
    notes: sentences for the user about what reading had to assume.
    """

    data: np.ndarray
    ijkToRAS: np.ndarray
    modality: str = ""
    geometry: NiftiGeometry | None = None
    dicom: DicomSource | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", np.asarray(self.data))
        object.__setattr__(self, "ijkToRAS", np.asarray(self.ijkToRAS, dtype=np.float64))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j and k in mm."""
        si, sj, sk = np.linalg.norm(self.ijkToRAS[:3, :3], axis=0)
        return float(si), float(sj), float(sk)

    def with_data(self, data: np.ndarray, modality: str = "") -> Volume:
        """Other values [k, j, i] in the same place."""
        return Volume(data, self.ijkToRAS.copy(), modality, self.geometry, self.dicom)

    def check(self, nan_is_air: bool = False) -> None:
        """Raises InvalidVolume, with a sentence of its own for each reason, unless the volume can
        be computed with."""
        self._check_values()
        if not nan_is_air and np.isnan(self.data.min()):
            raise InvalidVolume(
                "The volume contains NaN values: replace them with the value of air."
            )
        self.check_geometry()

    def check_source(self) -> None:
        """As `check`, but NaN is air; and InvalidVolume for a mask or a label map: a source is a
        picture."""
        self.check(nan_is_air=True)
        found = label_values(self.data)
        if found:
            values = ", ".join(f"{value:g}" for value in found[:8])
            raise InvalidVolume(
                f"The volume has {len(found)} values only ({values}{' ...' * (len(found) > 8)}): "
                "that is a mask or a label map, choose the scan that it was made of."
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
        low, high = np.fmin.reduce(self.data, None), np.fmax.reduce(self.data, None)  # skip NaN
        if np.isnan(low):
            raise InvalidVolume("Every voxel of the volume is NaN: choose another volume.")
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InvalidVolume(
                "The volume contains infinite values: replace them with the value of air."
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
        """The part of `check` that concerns ijkToRAS; a sheared grid passes."""
        check_geometry(self.ijkToRAS, self.data.shape)


_FEW_VALUES = 8
_MOST_LABELS = 256
# Share of equal neighbours: .7 to .9 in label maps of 54 tissues, at most .55 in 144 MR and CT
# pictures of 16 or 256 levels.
_EQUAL_NEIGHBOURS = 0.65


def label_values(data: np.ndarray) -> list[float]:
    """All values of a mask or a map of labels, by size; none of a picture. data: [k, j, i].

    A map has few values, or up to 256 with most voxels like their neighbour.
    """
    some = np.unique(data.reshape(-1)[:: data.size // 10_000 | 1])
    if some.size > _MOST_LABELS:
        return []
    found = np.unique(data)
    found = found[np.isfinite(found)]
    if found.size > _MOST_LABELS or found.size < 2:
        return []
    if found.size > _FEW_VALUES:
        # The lowest and the highest value of a picture may be those at which it was cut off.
        inner = (data > found[0]) & (data < found[-1])
        inner[..., -1] = False
        equal = (data[..., :-1] == data[..., 1:])[inner[..., :-1]]
        if equal.size and equal.mean() < _EQUAL_NEIGHBOURS:
            return []
    return [float(value) for value in found]
