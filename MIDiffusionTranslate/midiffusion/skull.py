"""Whether a source shows a skull, or a brain alone.

A model makes a brain as bright as it is beside the skin and marrow it has learnt it with, and a
result of a brain alone is half as bright as that of a head. What is done about it
(`PercentileIntensity.gain`) needs to be known from the source: a head whose fat is suppressed has a
dark result too, and rightly. And a model of CT draws a skull into some slices of a brain.

In an MR of any contrast the bone is darker than the scalp outside it or the brain inside. In a
brain alone brightness runs from the surface to the middle without such a ditch. A CT has bone or
has not.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .head import AIR, BONE_HU, deep_in_head, head_of, shrink
from .intensity import CT_WINDOW

# Below the surface, millimetres (1, 2, 3, 5, 8, 11 and 15 pixels of the shipped models): where the
# scalp is, and bone. Deeper than the last is brain.
_SCALP_MM = (1.7, 3.3, 5.0, 8.3)
_BONE_MM = (5.0, 8.3, 13.0, 18.0)
_BRAIN_MM = 25.0
# Brightness of the ditch over that of the brighter of its sides. Heads have up to the first of the
# two nearly always, brains from the second (docs/results.md).
_HEAD, _BRAIN = 0.65, 0.75
_LEAST_BONE = 0.01  # share of a head in CT; heads have a tenth
_SLICES = 24  # that it is told by
_LEAST_PIXELS = 100
_ENOUGH_MM = 60.0  # of slices that are wide enough to have a depth


def brain_alone(
    slices: Tensor, rows: slice, columns: slice, pixel_mm: float, *, is_ct: bool
) -> float:
    """How surely these slices show a brain without its skull: 0 for a head, 1 for a brain.

    Args:
        slices: [S, 1, H, W] of a `Source`, model units, axial or of another orientation.
        rows, columns: those that the source has; the others are padding.
        pixel_mm: in-plane size of the pixels, millimetres.
        is_ct: whether they are of a CT.
    """
    # Where the field of view ends is no surface, and what pads it no air.
    some = slices[:: max(1, -(-len(slices) // _SLICES)), :, rows, columns].cpu()
    head = head_of(some, 2 * AIR)  # noise may be above the level of air
    if is_ct:
        bone = float(np.interp(BONE_HU, *CT_WINDOW))
        inside = some[head > 0]
        return float(len(inside) >= _LEAST_PIXELS and (inside > bone).float().mean() < _LEAST_BONE)
    depths = sorted({*_SCALP_MM, *_BONE_MM, _BRAIN_MM})
    deeper = {mm: shrink(head, round(mm / pixel_mm)) for mm in depths}

    def brightness(where: Tensor) -> list[float]:
        found = some[where > 0]
        return [float(found.median())] if len(found) >= _LEAST_PIXELS else []

    def layers(edges: tuple[float, ...]) -> list[float]:
        pairs = zip(edges[:-1], edges[1:], strict=True)
        return [one for low, high in pairs for one in brightness(deeper[low] - deeper[high])]

    sides, ditch = layers(_SCALP_MM) + brightness(deeper[_BRAIN_MM]), layers(_BONE_MM)
    if not (sides and ditch):
        return 0.0
    return float(np.interp(min(ditch) / max(sides), (_HEAD, _BRAIN), (0.0, 1.0)))


def surely_no_skull(alone: float, slices: Tensor, pixel_mm: float, gap_mm: float) -> bool:
    """Whether slices [S, 1, H, W], `gap_mm` apart, that are `brain_alone` to this degree show so
    much of a head that its skull would have shown. A few slices of a head, the lowest or the
    uppermost, can look like those of a brain (docs/results.md)."""
    if alone < 1:
        return False
    deep = (deep_in_head(one, _BRAIN_MM, pixel_mm) for one in slices.cpu().split(1))
    high = sum(int(one.sum()) >= _LEAST_PIXELS for one in deep)
    return high * gap_mm >= _ENOUGH_MM
