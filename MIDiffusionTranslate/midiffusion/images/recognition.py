"""What a source is, MR or CT, and its values in Hounsfield units whatever scale a CT is stored in.

Soft tissue tells a CT of a head: most of the head lies within 60 HU of the brain's mode, which is
3 % of the distance from air to bone, with a tail of bone far above and next to nothing between fat
and air. On 144 people (SynthRAD2023, three planes each) the share near the mode is .59 to .76 in CT
and at most .40 in MR (24 other MR volumes included), whatever the gain and the offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .volume import Volume

AIR_HU = -1000.0
_SOFT_HU = 35.0  # the mode of a head: brain and muscle
_NEAR_HU = 60.0  # noise of thin slices included
_LEAST_SOFT = 0.45  # share of the head near the mode
_BONE_HU, _BONE_SHARE = 250.0, (0.02, 0.45)
_FAT_HU, _LEAST_FAT = (-170.0, -40.0), 0.01
_MOST_BETWEEN = 0.25  # share between air and fat, relative to the head
_OFFSETS = (0.0, 1024.0, 1000.0)  # of stored values above HU
_MODE_HU = (-25.0, 95.0)  # where the mode of a head in HU lies
_NEGATIVE_SHARE = 0.01  # voxels below -90, by fat and air, that MR has only by chance


@dataclass(frozen=True, eq=False)
class Recognised:
    """kind: "MR" or "CT". values: float32 [k, j, i] without NaN, HU for CT. air: bool [k, j, i] or
    None, voxels outside the head by a mark of their own (NaN, a fill value). hu_offset: what a CT's
    stored values lay above HU. warning: a sentence for the user where the scale is a guess."""

    kind: str
    values: np.ndarray
    air: np.ndarray | None = None
    hu_offset: float = 0.0
    warning: str | None = None


@dataclass(frozen=True)
class _Scale:
    """HU = (value - air) * hu_per_unit - 1000 for stored values."""

    air: float
    hu_per_unit: float

    def hu(self, values: np.ndarray) -> np.ndarray:
        result: np.ndarray = (values - np.float32(self.air)) * np.float32(self.hu_per_unit)
        return result + np.float32(AIR_HU)

    def hu_of(self, value: float | None) -> float | None:
        return None if value is None else float(self.hu(np.float32(value)[None])[0])


def recognise(volume: Volume, kind: str = "auto") -> Recognised:
    """Decides what a source is.

    Args:
        volume: finite values or NaN (air), any scale.
        kind: "mr" or "ct" says what it is; "auto" asks `volume.modality`, then the values.
    """
    values = np.array(volume.data, np.float32)
    missing = np.isnan(values)
    air = missing if missing.any() else None
    if air is not None:
        low = float(np.fmin.reduce(values, None))
        values[missing] = min(low, 0.0) if low > AIR_HU / 2 else low
    _without_spikes(values)
    if kind == "auto" and volume.modality.upper() in ("CT", "MR"):
        kind = volume.modality.lower()
    if kind == "mr":
        return Recognised("MR", values, air)
    return _as_ct(values, air, forced=kind == "ct") or Recognised("MR", values, air)


def _as_ct(values: np.ndarray, air: np.ndarray | None, forced: bool) -> Recognised | None:
    """None: no CT. forced: it is one."""
    some = some_of(values if air is None else values[~air])
    outside = edge_fill(values)
    plain = is_ct(values) or _is_head_in_hu(some, outside, 0.0)
    offset = 0.0 if plain else _offset(some, outside)
    if offset is not None:
        hu = values - np.float32(offset)
        hu, air = _with_air(hu, air, None if outside is None else outside - offset)
        return Recognised("CT", hu, air, offset)
    scale = _scale(some, outside)
    if scale is not None and _is_head(scale.hu(some)):
        what = "whose scale was estimated from air and soft tissue"
    elif forced:
        what, scale = _forced_scale(some, scale)
    else:
        return None
    hu, air = _with_air(scale.hu(values), air, scale.hu_of(outside))
    low, high = float(some.min()), float(some.max())
    warning = (
        f"The values ({low:g} to {high:g}) are no Hounsfield units: the source was taken for a CT "
        f"{what}; if it is an MR, say so (--from mr)."
    )
    return Recognised("CT", hu, air, scale.air - AIR_HU / scale.hu_per_unit, warning)


def _forced_scale(some: np.ndarray, scale: _Scale | None) -> tuple[str, _Scale]:
    """For what the user calls a CT and can't be calibrated."""
    if some.min() < -90 or scale is None:
        return "in Hounsfield units as it stands", _Scale(AIR_HU, 1.0)
    top = float(np.mean(some[some > scale.air] == some.max()))
    if top > 0.02:  # cut off within bone: a window, whose lower end lies about at fat
        soft = scale.air + (_SOFT_HU - AIR_HU) / scale.hu_per_unit
        slope = (_SOFT_HU + 100.0) / (soft - scale.air)
        return "through a window from about -100 HU", _Scale(scale.air - 900.0 / slope, slope)
    return "whose scale was estimated from air and soft tissue", scale


def _offset(some: np.ndarray, outside: float | None) -> float | None:
    """How far above HU the values are stored; None where that isn't recognised."""
    found = [offset for offset in _OFFSETS[1:] if _is_head_in_hu(some, outside, offset)]
    return min(found, key=lambda offset: abs(_mode(some - offset) - _SOFT_HU)) if found else None


def _is_head_in_hu(some: np.ndarray, outside: float | None, offset: float) -> bool:
    """Whether values minus `offset` are the HU of a head, also cut off or cleared outside."""
    hu = (some if outside is None else some[some != outside]) - np.float32(offset)
    if hu.size == 0:
        return False
    lowest, highest = hu.min(), hu.max()
    head = hu[(hu > -300) & (hu > lowest)]
    if head.size < 0.02 * some.size or highest < 150:
        return False
    mode = _mode(hu)
    near = np.mean(np.abs(head - mode) < _NEAR_HU)
    bone = np.mean(head > _BONE_HU)
    between = np.count_nonzero((hu > -850) & (hu < -250) & (hu > lowest + 100)) / head.size
    fat = np.mean((head > _FAT_HU[0]) & (head < _FAT_HU[1]))
    # Values cut off above fat show none; below 0 only HU go.
    negative = np.mean(some - np.float32(offset) < -90)
    has_fat = fat > _LEAST_FAT if offset else negative > _NEGATIVE_SHARE
    return bool(
        _MODE_HU[0] < mode < _MODE_HU[1]
        and near > _LEAST_SOFT
        and _BONE_SHARE[0] < bone < _BONE_SHARE[1]
        and between < _MOST_BETWEEN
        and has_fat
    )


def _is_head(hu: np.ndarray) -> bool:
    """As `_is_head_in_hu`, for a scale that was estimated: every sign has to be there."""
    head = hu[hu > -300]
    near = np.mean(np.abs(head - _SOFT_HU) < _NEAR_HU)
    bone = np.mean(head > _BONE_HU)
    fat = np.mean((head > _FAT_HU[0]) & (head < _FAT_HU[1]))
    between = np.count_nonzero((hu > -850) & (hu < -250)) / max(head.size, 1)
    return bool(
        near > _LEAST_SOFT
        and _BONE_SHARE[0] < bone < _BONE_SHARE[1]
        and fat > _LEAST_FAT
        and between < _MOST_BETWEEN
    )


def _scale(some: np.ndarray, outside: float | None) -> _Scale | None:
    """The scale on which air is -1000 HU and the mode of what is not air 35 HU."""
    low, high = float(some.min()), float(np.percentile(some, 99.9))
    if high <= low:
        return None
    air = low
    inside = some if outside is None else some[some != outside]
    dark = inside[inside < low + 0.3 * (high - low)]
    if dark.size > 0.02 * some.size:
        air = _peak(dark, float(dark.min()), float(dark.max()))
    tissue = some[some > air + 0.08 * (high - air)]
    if tissue.size < 0.02 * some.size:
        return None
    soft = _peak(tissue, float(tissue.min()), high)
    return _Scale(air, (_SOFT_HU - AIR_HU) / (soft - air)) if soft > air else None


def _mode(hu: np.ndarray) -> float:
    """The most frequent value of soft tissue, HU."""
    return _peak(hu[(hu > -60) & (hu < 160)], -60.0, 160.0)


def _peak(values: np.ndarray, low: float, high: float) -> float:
    """The most frequent value between two, to 1/100 of their distance; stored values may lie some
    way apart."""
    if values.size == 0 or high <= low:
        return low
    counts, edges = np.histogram(values, 200, (low, high))
    smooth = np.convolve(counts, np.array([1, 2, 3, 4, 3, 2, 1]), "same")
    return float(edges[smooth.argmax()] + (edges[1] - edges[0]) / 2)


def _with_air(
    hu: np.ndarray, air: np.ndarray | None, outside: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values with what is outside the head at -1000 HU, and that as a mask.

    outside: the value, HU, that fills the edges of the volume. What has it, or the value at which
    the volume is cut off below, and is connected to the edge is air. In a cone beam's picture air
    is brighter: below -500 HU its scale is stretched.
    """
    marks = [hu.min()] if hu.min() > -900 else []
    marks += [outside] if outside is not None and outside > -900 else []
    for mark in marks:
        found = _connected_to_edge(hu == mark)
        air = found if air is None else air | found
    dark = hu[(hu < -600) & (hu > AIR_HU)] if not marks or hu.min() < -600 else hu[:0]
    if dark.size > 0.05 * hu.size and hu.min() > AIR_HU - 1:
        level = _peak(dark, AIR_HU, -600.0)
        if level > -930:
            low = hu < -500
            hu[low] = -500 + (hu[low] + 500) * ((AIR_HU + 500) / (level + 500))
    if air is not None:
        hu[air] = AIR_HU
    return hu, air


def _connected_to_edge(mask: np.ndarray) -> np.ndarray:
    """The part of a mask [k, j, i] that reaches the first or last row or column."""
    parts = sitk.GetArrayFromImage(
        sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))
    )
    edge = np.concatenate([parts[:, [0, -1]].ravel(), parts[:, :, [0, -1]].ravel()])
    found: np.ndarray = np.isin(parts, np.unique(edge[edge > 0]))
    return found


def _without_spikes(values: np.ndarray) -> None:
    """Replaces voxels at one value far above or below all others (a code, a defect) by the median
    of their neighbours; values [k, j, i] is changed."""
    for pick, sign in ((np.max, 1), (np.min, -1)):
        extreme = pick(values)
        spikes = values == extreme
        rest = some_of(values)
        rest = rest[rest != extreme]
        if rest.size == 0 or spikes.mean() > 0.05:
            continue
        nearest, middle = float(pick(rest)), float(np.median(rest))
        if sign * (extreme - nearest) > 5 * sign * (nearest - middle) + 1e-6:
            values[spikes] = _around(values, spikes, nearest)


def _around(values: np.ndarray, spikes: np.ndarray, otherwise: float) -> np.ndarray:
    """Median of the neighbours in the slice that are no spikes, [spikes]."""
    clean = np.where(spikes, np.float32(np.nan), values)
    padded = np.pad(clean, ((0, 0), (1, 1), (1, 1)), mode="edge")
    k, j, i = np.nonzero(spikes)
    near = np.stack([padded[k, j + y, i + x] for y in range(3) for x in range(3)])
    near[:, np.isnan(near).all(axis=0)] = otherwise
    median: np.ndarray = np.nanmedian(near, axis=0)
    return median


def some_of(data: np.ndarray) -> np.ndarray:
    """About a million of the voxels, [n]. An odd step doesn't fall into the rhythm of even rows."""
    values = np.asarray(data).reshape(-1)
    return values[:: values.size // 1_000_000 | 1]


def edge_fill(values: np.ndarray) -> float | None:
    """The exact value of at least half of the voxels on the twelve edges of a volume, if any."""
    k, j, i = (sorted({0, n - 1}) for n in values.shape)
    edges = np.concatenate(
        [values[:, j][:, :, i].ravel(), values[k][:, :, i].ravel(), values[k][:, j].ravel()]
    )
    found, count = np.unique(edges, return_counts=True)
    most = int(count.argmax())
    return float(found[most]) if 2 * count[most] >= edges.size else None


# A CT has at least this share below fluid, by its air, fat and noise, or else (if all but one value
# has been cleared) its middle no higher than brain, fluid, muscle and fat have it.
_FLUID_HU, _LEAST_BELOW = -20.0, 0.02
_BRIGHTEST_MEDIAN_HU = 60.0


def is_ct(data: np.ndarray, modality: str = "") -> bool:
    """Whether values are Hounsfield units: modality says "CT", or there is air near -1000 and most
    of the rest is soft tissue near 0, which only CT has. (An MR can have a fill value there, but
    next to nothing else far below 0, and its tissue is where chance put it.)"""
    if modality.upper() == "CT":
        return True
    values = some_of(data)
    unlike_fill = values[values > values.min()]
    if (
        unlike_fill.size
        and np.mean(unlike_fill < _FLUID_HU) < _LEAST_BELOW
        and np.median(unlike_fill) > _BRIGHTEST_MEDIAN_HU
    ):
        return False

    def share(low: float, high: float) -> float:
        return float(np.mean((values >= low) & (values <= high)))

    tissue = share(-150, 300)
    return share(-1100, -900) > 0.02 and tissue > max(0.05, 0.4 * share(-900, np.inf))
