"""The model's slices of a volume, and the way back to the volume's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InvalidParameter, InvalidVolume
from ..models.names import ORIENTATIONS
from .placement import unit_axes
from .volume import Volume

# Direction in RAS in which each index of the slices grows: slice, row, column. Axial and coronal
# slices are seen as radiologists hang them (the patient's right on the left of the picture).
_DISPLAY = {
    "axial": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "sagittal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "coronal": ((0, -1, 0), (0, 0, -1), (-1, 0, 0)),
}
_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
# A network that halves its images a few times has nothing left of smaller ones.
_MIN_PIXELS = 64
# Beyond this the spacing is in the wrong unit (2 m of anatomy at 1 mm).
_MAX_PIXELS = 2048


def cubic(distance: np.ndarray) -> np.ndarray:
    """Cubic convolution kernel with a = -1/2, support [-2, 2]; distance in samples.

    Source: R. G. Keys, IEEE Trans. ASSP 29(6), 1981, eq. 15.
    """
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resampling_matrix(n_from: int, step_from: float, n_to: int, step_to: float) -> np.ndarray:
    """Cubic resampling of one axis as a matrix, float64 [n_to, n_from]; its rows sum to 1.

    The two axes share their centre (their ends too, where the lengths agree). Where the samples
    become fewer the kernel is widened by the ratio of the steps, so that nothing aliases; beyond
    its ends the signal is continued by its first and last sample.
    """
    widening = max(1.0, step_to / step_from)
    margin = int(np.ceil(2 * widening)) + 1
    position = (np.arange(n_to) - (n_to - 1) / 2) * (step_to / step_from) + (n_from - 1) / 2
    index = np.arange(-margin, n_from + margin)
    weights = cubic((index[None, :] - position[:, None]) / widening)
    matrix = np.zeros((n_to, n_from))
    np.add.at(matrix.T, np.clip(index, 0, n_from - 1), weights.T)
    return matrix / matrix.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Axis:
    """One in-plane axis: the source's samples, those of the model, and the padding round them."""

    forward: np.ndarray  # float32 [padded, source]
    back: np.ndarray  # float32 [source, padded]
    inside: slice  # of the padded samples: those that are not padding

    @staticmethod
    def of(samples: int, step_mm: float, pixel_mm: float, multiple: int) -> _Axis:
        pixels = max(1, int(np.ceil(samples * step_mm / pixel_mm - 1e-6)))
        padded = -(-max(pixels, _MIN_PIXELS) // multiple) * multiple
        if padded > _MAX_PIXELS:
            raise InvalidVolume(
                f"The volume measures {samples * step_mm:g} mm in the plane of the slices "
                f"({samples} voxels of {step_mm:g} mm), more than any anatomy: correct its spacing."
            )
        before = (padded - pixels) // 2
        forward = np.zeros((padded, samples), np.float32)
        forward[before : before + pixels] = resampling_matrix(samples, step_mm, pixels, pixel_mm)
        back = np.zeros((samples, padded), np.float32)
        back[:, before : before + pixels] = resampling_matrix(pixels, pixel_mm, samples, step_mm)
        return _Axis(forward, back, slice(before, before + pixels))


@dataclass(frozen=True)
class SliceGrid:
    """Slices along the source axis nearest to an orientation, on the model's pixel size.

    Through the plane nothing is resampled: each slice keeps its own position, so the slices may be
    any distance apart. In the plane rows and columns are resampled to the model's pixels, in the
    orientation a radiologist expects whatever the order and direction of the source's axes:

    - axial: slices inferior -> superior, rows anterior -> posterior, columns right -> left;
    - sagittal: slices right -> left, rows superior -> inferior, columns anterior -> posterior;
    - coronal: slices anterior -> posterior, rows superior -> inferior, columns right -> left.

    An oblique volume keeps its obliqueness; it is its axes, not the patient's, that are followed.
    """

    source_shape: tuple[int, int, int]
    order: tuple[int, int, int]  # axes of data that become slices, rows, columns
    flipped: tuple[int, ...]  # which of slices, rows, columns run against the source's index
    rows: _Axis
    columns: _Axis

    @staticmethod
    def of(volume: Volume, pixel_mm: float, orientation: str, multiple: int) -> SliceGrid:
        """The grid for one volume.

        pixel_mm: size of the model's square pixels. multiple: height and width of the slices are
        padded with air to a multiple of this, and to at least 64.
        Raises InvalidParameter (orientation) and InvalidVolume (a field of view beyond reason).
        """
        if orientation not in _DISPLAY:
            raise InvalidParameter(
                f"Unknown orientation {orientation!r}: use one of {', '.join(ORIENTATIONS)}."
            )
        # Direction cosines of the axes of data, which numbers them k, j, i; of a sheared volume
        # those of the normals of its planes, which tell how its slices lie.
        normals = np.linalg.inv(unit_axes(volume.ijkToRAS))
        axes = (normals / np.linalg.norm(normals, axis=1, keepdims=True))[::-1]
        step_mm = volume.spacing_mm[::-1]
        along = axes @ np.array(_DISPLAY[orientation], dtype=np.float64).T  # [source axis, display]
        order: tuple[int, int, int] = max(
            _ORDERS,
            # The slice axis is chosen first; only then do rows and columns share the other two.
            key=lambda p: (abs(along[p[0], 0]), abs(along[p[1], 1]) + abs(along[p[2], 2])),
        )
        shape = volume.data.shape
        return SliceGrid(
            source_shape=(shape[0], shape[1], shape[2]),
            order=order,
            flipped=tuple(d for d in range(3) if along[order[d], d] < 0),
            rows=_Axis.of(shape[order[1]], step_mm[order[1]], pixel_mm, multiple),
            columns=_Axis.of(shape[order[2]], step_mm[order[2]], pixel_mm, multiple),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns on the model grid."""
        return (
            self.source_shape[self.order[0]],
            self.rows.forward.shape[0],
            self.columns.forward.shape[0],
        )

    def to_slices(self, data: np.ndarray) -> np.ndarray:
        """data [k, j, i] with air at 0 -> float32 [slices, rows, columns], air round it."""
        slices = np.empty(self.shape, np.float32)
        for source, target in zip(self._turned(data), slices, strict=True):
            target[:] = self.rows.forward @ source.astype(np.float32) @ self.columns.forward.T
        return slices

    def to_volume(self, slices: np.ndarray) -> np.ndarray:
        """slices [slices, rows, columns] -> float32 [k, j, i] on the source's own grid."""
        data = np.empty(self.source_shape, np.float32)
        for source, target in zip(slices, self._turned(data), strict=True):
            target[:] = self._back(source)
        return data

    def _turned(self, data: np.ndarray) -> np.ndarray:
        """[k, j, i] as slices, rows and columns: a view, which can be filled."""
        return np.flip(np.transpose(data, self.order), self.flipped)

    def _back(self, one: np.ndarray) -> np.ndarray:
        return self.rows.back @ one.astype(np.float32) @ self.columns.back.T
