"""The contrast that a model of the other kind sees: an MR for one of CT, a CT for one of MR.

LMI maps tell where neighbours differ by more than the width of a kernel, and hardly which of them
is brighter. So a fixed curve of the source's intensities decides which of its structure they show.
Between contrasts of MR all of it counts. Between MR and CT most of it misleads: what tells one soft
tissue from another in MR is nearly flat in CT, and bone, which outshines all else in CT, is as dark
as air in MR. The curves know no more than that; their figures were chosen on training subjects
(docs/results.md).

No curve tells fluid from bone where an MR shows both dark, and a ventricle came out as a hole in
the head. But bone and air are of one piece with the skull and the face, and fluid deep in the head
is not: there it is shown as the tissue round it, which in CT it nearly is. (So is what else is dark
there: a clip, old blood, what is calcified. No MR tells a model of CT which of them it is.)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .head import AIR, air_through_slices, connected, deep_in_head, grow, reached_from_edge
from .intensity import CT_WINDOW

# MR to a model of CT: bone and air keep their distance from tissue, tissues come close together.
_TISSUE, _STEEPNESS = 0.7, 2.5
# Deeper below the surface of a head there is no bone or air but what is connected to the rest.
_DEEP_MM = 25.0
_FLUID = 0.5  # times the median of all that is so deep: fluid is darker
_LEAST_PIXELS = 100  # that a median is taken of
_AT_ONCE = 8  # slices
# CT to a model of MR: Hounsfield units, and model units in the order of T1 and FLAIR, where bone is
# darkest, then fluid, then brain. In MR fluid and brain are further apart still, and fat is
# brighter; but the steeper the curve, the more of a CT's noise it shows.
_CT_AS_MR = (
    (-1000, -700, -200, -100, -20, 0, 35, 70, 150, 300, 1800),
    (0.0, 0.03, 0.3, 0.5, 0.4, 0.3, 0.5, 0.55, 0.4, 0.25, 0.0),
)


def nearer_contrast(
    source: Tensor, pixel_mm: float, *, source_is_ct: bool, target_is_ct: bool
) -> Tensor:
    """A source as a model is shown it by its LMI maps.

    Args:
        source: [S, 1, H, W], float32, as `Source` has it: [0, 1.25], air at 0; all of a volume's
            slices, for a model of CT judges fluid by all of them.
        pixel_mm: in-plane size of its pixels, millimetres.
        source_is_ct, target_is_ct: whatever is no CT is treated as MR.

    Returns:
        Like `source`, [0, 0.7]; where both are of one kind, the source itself.
    """
    if source_is_ct == target_is_ct:
        return source
    if target_is_ct:
        return torch.tanh(_fluid_as_tissue(source, pixel_mm) * _STEEPNESS).mul_(_TISSUE)
    hounsfield, values = _CT_AS_MR
    places = np.interp(hounsfield, *CT_WINDOW)
    shown = np.empty(source.shape, np.float32)
    for one, image in zip(shown, source.cpu().numpy(), strict=True):  # it computes in float64
        one[:] = np.interp(image, places, values)
    return torch.from_numpy(shown).to(source.device)


def _fluid_as_tissue(source: Tensor, pixel_mm: float) -> Tensor:
    """An MR, [S, 1, H, W] in model units, with fluid deep in the head as bright as most of what is
    there; like `source`."""
    stack = source.cpu()
    parts = stack.split(_AT_ONCE)
    deep = torch.cat([deep_in_head(part, _DEEP_MM, pixel_mm) for part in parts])
    inside = stack[deep > 0]
    if len(inside) < _LEAST_PIXELS:
        return source
    usual = inside.median()
    dark = (stack < _FLUID * usual).to(stack)
    fluid = torch.cat(
        [one - reached_from_edge(one.maximum(1 - d)) * one for one, d in _both(dark, deep)]
    )
    if fluid.any():
        # A sinus that this slice closes opens in others.
        air = air_through_slices(stack, 2 * AIR) * fluid
        fluid = torch.cat([one - connected(seeds, one) for one, seeds in _both(fluid, air)])
    # What lies half in fluid is brought up with it.
    near = torch.cat([grow(one, 1) for one in fluid.split(_AT_ONCE)])
    return torch.where(near > 0, stack.clamp_min(usual), stack).to(source.device)


def _both(first: Tensor, second: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Some slices after the other: what is worked on at once bounds the memory."""
    return zip(first.split(_AT_ONCE), second.split(_AT_ONCE), strict=True)
