"""The contrast that a model of the other kind sees: an MR for one of CT, a CT for one of MR.

LMI maps tell where neighbours differ by more than the width of a kernel, and hardly which of them
is brighter. So a fixed curve of the source's intensities decides which of its structure they show.
Between contrasts of MR all of it counts. Between MR and CT most of it misleads: what tells one soft
tissue from another in MR is nearly flat in CT, and bone, which outshines all else in CT, is as dark
as air in MR. The curves know no more than that; their figures were chosen on training subjects
(docs/results.md).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .intensity import CT_WINDOW

# MR to a model of CT: bone and air keep their distance from tissue, tissues come close together.
_TISSUE, _STEEPNESS = 0.7, 2.5
# CT to a model of MR: Hounsfield units, and model units in the order of T1 and FLAIR, where bone is
# darkest, then fluid, then brain. In MR fluid and brain are further apart still, and fat is
# brighter; but the steeper the curve, the more of a CT's noise it shows.
_CT_AS_MR = (
    (-1000, -700, -200, -100, -20, 0, 35, 70, 150, 300, 1800),
    (0.0, 0.03, 0.3, 0.5, 0.4, 0.3, 0.5, 0.55, 0.4, 0.25, 0.0),
)


def nearer_contrast(source: Tensor, *, source_is_ct: bool, target_is_ct: bool) -> Tensor:
    """A source as a model is shown it by its LMI maps.

    Args:
        source: [S, 1, H, W], float32, as `Source` has it: [0, 1.25], air at 0.
        source_is_ct, target_is_ct: whatever is no CT is treated as MR.

    Returns:
        Like `source`, [0, 0.7]; where both are of one kind, the source itself.
    """
    if source_is_ct == target_is_ct:
        return source
    if target_is_ct:
        return torch.tanh(source * _STEEPNESS).mul_(_TISSUE)
    hounsfield, values = _CT_AS_MR
    places = np.interp(hounsfield, *CT_WINDOW)
    shown = np.empty(source.shape, np.float32)
    for one, image in zip(shown, source.cpu().numpy(), strict=True):  # it computes in float64
        one[:] = np.interp(image, places, values)
    return torch.from_numpy(shown).to(source.device)
