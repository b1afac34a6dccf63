"""Intensity maps: the units of a modality to and from model units.

Model units are float32 with air at 0; for MR the 99.5th percentile inside the head is at 1, for CT
they are (HU + 1000) / 3060. The map of a model's *target* is part of its card; what comes in as a
*source* may be anything and goes through `SourceIntensity` (see `source`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import ClassVar

import numpy as np

from ..errors import InvalidCard
from .recognition import edge_fill, is_ct


def head_mask(data: np.ndarray) -> np.ndarray:
    """Voxels above 3 % of the 99.5th percentile inside the head; data: air at 0, any scale.

    The percentile is taken over the voxels above the mean, which are head whatever the share of
    air in the field of view, so that padding a volume with air does not change its mask.
    """
    values = np.asarray(data, dtype=np.float32)
    bright = values[values > values.mean(dtype=np.float64)]
    if bright.size == 0:
        return np.zeros(values.shape, dtype=bool)
    mask: np.ndarray = values > 0.03 * np.percentile(bright, 99.5)
    return mask


def _percentile_in_head(data: np.ndarray, percentile: float) -> float:
    mask = head_mask(data)
    return float(np.percentile(data[mask], percentile)) if mask.any() else 1.0


@dataclass(frozen=True)
class PercentileIntensity:
    """MR: the given percentile inside the head is 1 in model units, and nominally `unit` outside
    (a translation can't know the gain of a scanner that never saw the patient)."""

    kind: ClassVar[str] = "percentile"
    percentile: float = 99.5
    unit: float = 1000.0

    def forward(self, data: np.ndarray) -> tuple[np.ndarray, float]:
        """data [...], air at 0 -> (float32 model units, the value that became 1). Not clipped."""
        values = np.asarray(data, dtype=np.float32)
        scale = _percentile_in_head(values, self.percentile)
        return values / np.float32(scale), scale

    def inverse(self, data: np.ndarray) -> np.ndarray:
        """Model units -> float32, 1 becomes `unit`."""
        return np.asarray(data, dtype=np.float32) * np.float32(self.unit)

    def to_dict(self) -> dict[str, object]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class HounsfieldIntensity:
    """CT: `low` (air) is 0 in model units and `high` is 1; values outside are clipped."""

    kind: ClassVar[str] = "hounsfield"
    low: float = -1000.0
    high: float = 2060.0

    def forward(self, data: np.ndarray) -> tuple[np.ndarray, float]:
        """data [...] in HU -> (float32 in [0, 1], the HU that one model unit spans)."""
        span = self.high - self.low
        values = (np.asarray(data, dtype=np.float32) - np.float32(self.low)) / np.float32(span)
        return np.clip(values, 0.0, 1.0), span

    def inverse(self, data: np.ndarray) -> np.ndarray:
        """Model units -> float32 HU."""
        span = np.float32(self.high - self.low)
        return np.asarray(data, dtype=np.float32) * span + np.float32(self.low)

    def to_dict(self) -> dict[str, object]:
        return {"kind": self.kind, **asdict(self)}


# A CT as a source: Hounsfield units and model units, straight between. 0 to 80 HU, where brain,
# fluid and blood differ, get what a head and neck radiologist's window gives them.
CT_WINDOW = ((-1000, -700, -200, -20, 80, 300, 1800), (0.0, 0.04, 0.25, 0.35, 0.65, 0.75, 1.0))
_CT_SOFT_TISSUE_SPAN = 100 / 0.3


@dataclass(frozen=True)
class SourceIntensity:
    """Any modality -> [0, 1.25], air at 0, soft tissue about where training images have it.

    1. A constant that fills the edges of the volume (the outside of a CT's reconstruction circle,
       the background of a brain-extracted image) is air, whatever its value.
    2. Air is the low percentile, or the fill value where that lies below the tissue and within
       reach of it.
    3. The high percentile inside the head becomes 1; but the median inside the head at most 0.5:
       without bright skin and marrow (brain-extracted images) the brain itself would fill the
       whole range, and come out twice as bright as in any training image.

    Hounsfield units go through `CT_WINDOW` in place of 2 and 3: on a straight scale to the
    brightest bone all of the brain spans less than a kernel's width.
    """

    low_percentile: float = 0.5
    high_percentile: float = 99.5

    _clip: ClassVar[float] = 1.25
    _highest_median: ClassVar[float] = 0.5

    def forward(
        self, data: np.ndarray, modality: str = "", air: np.ndarray | None = None
    ) -> tuple[np.ndarray, float]:
        """data [k, j, i], finite -> (float32 in [0, 1.25], the span of one model unit in data's
        units). modality: "CT" says that the values are Hounsfield units, "MR" that they are not;
        else that is recognised. air: bool [k, j, i], voxels that are 0 whatever their value.
        """
        values = np.asarray(data, dtype=np.float32)
        fill = edge_fill(values)
        units, span = self._units(values, fill, modality)
        if air is not None:
            units[air] = 0
        return units, span

    def _units(
        self, values: np.ndarray, fill: float | None, modality: str
    ) -> tuple[np.ndarray, float]:
        if modality.upper() != "MR" and is_ct(values, modality):
            units = np.empty_like(values)
            for plane, target in zip(values, units, strict=True):  # it computes in float64
                target[:] = np.interp(plane, *CT_WINDOW)
            if fill is not None:
                units[values == fill] = 0
            return units, _CT_SOFT_TISSUE_SPAN
        shifted = values - np.float32(self._air(values, fill))
        np.maximum(shifted, 0, out=shifted)
        if fill is not None:
            shifted[values == fill] = 0
        head = shifted[head_mask(shifted)]
        if head.size == 0:
            return np.zeros_like(shifted), 1.0
        scale = max(
            float(np.percentile(head, self.high_percentile)),
            float(np.median(head)) / self._highest_median,
        )
        shifted /= np.float32(scale)
        return np.minimum(shifted, np.float32(self._clip), out=shifted), scale

    def _air(self, values: np.ndarray, fill: float | None) -> float:
        inside = values if fill is None else values[values != fill]
        if inside.size == 0:
            inside = values
        low, high = np.percentile(inside, (self.low_percentile, self.high_percentile))
        # A fill further below the tissue than the tissue's own range is a code, not an intensity.
        if fill is not None and fill < low and (low - fill <= high - low or low == high):
            return fill
        return float(low)


_TARGET_MAPS: dict[str, type[PercentileIntensity] | type[HounsfieldIntensity]] = {
    PercentileIntensity.kind: PercentileIntensity,
    HounsfieldIntensity.kind: HounsfieldIntensity,
}


def intensity_map(described: dict[str, object]) -> PercentileIntensity | HounsfieldIntensity:
    """The map that `to_dict` described; raises InvalidCard for any other dictionary."""
    kind = described.get("kind")
    make = _TARGET_MAPS.get(str(kind))
    if make is None:
        raise InvalidCard(
            f"The model card's intensity map is {kind!r}: this version knows "
            f"{', '.join(_TARGET_MAPS)}; get a newer version of MIDiffusion or another model."
        )
    known = {f.name for f in fields(make)}
    arguments: dict[str, float] = {}
    for name, value in described.items():
        if name == "kind":
            continue
        if name not in known or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidCard(
                f"The model card's intensity map has {name} = {value!r}, where a number for one of "
                f"{', '.join(sorted(known))} is needed: the card is damaged, get the model again."
            )
        arguments[name] = value
    return make(**arguments)
