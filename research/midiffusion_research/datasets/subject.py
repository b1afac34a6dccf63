"""What every data set gives: subjects with a source, the real target and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from midiffusion.errors import InvalidParameter
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

# CT in model units is (HU + 1000) / 3060.
HU_PER_UNIT = 3060.0
HU_OF_ZERO = -1000.0
_CT_HEAD_ABOVE_HU = -500.0
_MR_HEAD_SHARE = 0.03
_PERCENTILE = 99.5

FloatStack = NDArray[np.float32]
MaskStack = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Subject:
    """One person's slices in two modalities.

    id: as in the collection.
    source: [S, H, W] in model units, with the geometry that a translator needs.
    target: float32 [S, H, W] on the same grid, in model units, scaled by percentiles of its own
        head (MR) or by its HU (CT).
    head: where the target shows the head. tumour: where the collection marks one, or None.
    contiguous: neighbouring slices are neighbours in the head too, so that flicker has a meaning.
    target_modality: in capitals; empty where nobody asks.
    """

    id: str
    source: Volume
    target: FloatStack
    head: MaskStack
    tumour: MaskStack | None = None
    contiguous: bool = False
    target_modality: str = ""

    def at(self, size: int) -> Subject:
        """The same subject averaged down to size x size pixels.

        The masks keep the pixels at least half of which they cover.
        """
        data = area_average(self.source.data, size)
        shrink = self.target.shape[-1] / size
        centre = (shrink - 1) / 2
        step = np.diag([shrink, shrink, 1.0, 1.0])
        step[:2, 3] = centre
        return replace(
            self,
            source=Volume(data, self.source.ijkToRAS @ step, self.source.modality),
            target=area_average(self.target, size),
            head=area_average(self.head, size) >= 0.5,
            tumour=None if self.tumour is None else area_average(self.tumour, size) >= 0.5,
        )

    def some(self, count: int) -> Subject:
        """The same subject with `count` of its slices, evenly spaced round the middle one; all of
        them where there are no more."""
        known = len(self.target)
        if known <= count:
            return self
        rows = ((np.arange(count) + 0.5) * known / count).astype(int)
        step = np.diag([1.0, 1.0, known / count, 1.0])
        step[2, 3] = rows[0]
        source = self.source
        return replace(
            self,
            source=Volume(source.data[rows], source.ijkToRAS @ step, source.modality),
            target=self.target[rows],
            head=self.head[rows],
            tumour=None if self.tumour is None else self.tumour[rows],
            contiguous=False,
        )


class Dataset(Protocol):
    """A collection that the table can be filled for."""

    name: str
    training: str  # name of the data set with training subjects: often this one
    directions: tuple[str, ...]
    # The id of the bundle, shipped or of a folder, that serves a target here: of the same anatomy.
    bundles: Mapping[str, str]
    sizes: tuple[int, ...]  # sizes in pixels at which the protocol scores; empty: the native grid

    def load(
        self, root: Path, direction: str, split: str, most: int | None = None
    ) -> list[Subject]:
        """Subjects of `split` ("train" or "val") of the data below `root`, the first `most`.

        direction: "source:target", lower case. Raises InvalidParameter for a direction that the
        collection does not have and InvalidData for a wrong or incomplete folder.
        """
        ...


def area_average(images: NDArray[np.generic], size: int) -> FloatStack:
    """[..., n, n] resampled to [..., size, size] by exact area averaging, float32.

    Each output pixel is the mean of the input under it, input pixels cut by its edge counting by
    the share inside: from 192 pixels to 128, rows mix in the weights 2/3 : 1/3. Averaging in two
    steps (192 -> 128 -> 64) gives the same as in one. Raises ValueError for images that are not
    square or smaller than `size`.
    """
    n = images.shape[-1]
    if images.shape[-2] != n or n < size:
        raise ValueError(f"can't average {images.shape[-2]} x {n} pixels down to {size}")
    if n == size:
        return np.asarray(images, dtype=np.float32)
    edges = np.linspace(0.0, n, size + 1)
    pixels = np.arange(n)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0.0, None) * size / n
    averaged = weights @ np.asarray(images, dtype=np.float64) @ weights.T
    return averaged.astype(np.float32)


def as_acquired(volume: Volume) -> Volume:
    """A source in the units in which a user would load it: CT in HU; MR has none, and stays."""
    if volume.modality != "CT":
        return volume
    data = np.asarray(volume.data, dtype=np.float32) * np.float32(HU_PER_UNIT)
    return Volume(data + np.float32(HU_OF_ZERO), volume.ijkToRAS, volume.modality)


def head_mask(target: NDArray[np.floating], modality: str) -> MaskStack:
    """The protocol's head mask of one subject's target [S, H, W] in model units.

    CT: above -500 HU. MR: above 3 % of the 99.5th percentile, which is taken over the whole head
    (the values above 3 % of the maximum), so that the share of air in the field of view is of no
    consequence.
    """
    if modality == "CT":
        return target > (_CT_HEAD_ABOVE_HU - HU_OF_ZERO) / HU_PER_UNIT
    inside = target[target > _MR_HEAD_SHARE * target.max()]
    if not inside.size:
        return np.zeros(target.shape, dtype=bool)
    return target > _MR_HEAD_SHARE * np.percentile(inside, _PERCENTILE)


def chosen(direction: str, directions: Sequence[str], dataset: str) -> tuple[str, str]:
    """Source and target of "source:target"; raises InvalidParameter unless it is on offer."""
    if direction not in directions:
        raise InvalidParameter(
            f"{dataset} has no direction '{direction}'; choose from {', '.join(directions)}."
        )
    source, target = direction.split(":")
    return source, target
