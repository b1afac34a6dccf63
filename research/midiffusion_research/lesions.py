"""What a translation does to tumours, and what it invents elsewhere.

Definitions (lengths for slices of 128 pixels, where a pixel is about 1.6 mm; smaller slices scale
them down):

- *lesion contrast*: mean inside the collection's tumour mask minus the mean of a ring round it, 3
  to 8 pixels away (5 to 13 mm: tissue that a reader compares it with). Given for the output and for
  the real target.
- *lesion error*: mean absolute error inside the tumour mask.
- *deep tissue*: the head without its outer 8 pixels (scalp, fat and skull, where fat is bright in
  every modality), with dark cavities closed, and without the tumour and 3 pixels round it.
- *false hyperintensity*: share of the deep tissue that is as bright in the output as the subject's
  real tumour (its median in the real target) but is not so in the real target, by at least 0.1
  model units. Slices without tumour count too; a subject without any tumour has no such figure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .metrics import dilate, erode

_REFERENCE_PIXELS = 128
_GAP, _RING, _SCALP, _CAVITY = 3, 8, 8, 4
_MARGIN = 0.1

Mask = NDArray[np.bool_]


def lesion_figures(
    output: NDArray[np.floating], target: NDArray[np.floating], head: Mask, tumour: Mask
) -> dict[str, float]:
    """Figures of one subject: all arrays [S, H, W], images in model units.

    Keys: lesion_contrast, lesion_contrast_real, lesion_mae, false_hyperintense (share, 0 to 1).
    Empty without tumour.
    """
    tumour = tumour & head
    if not tumour.any():
        return {}
    scale = target.shape[-1] / _REFERENCE_PIXELS
    gap, reach = max(1, round(_GAP * scale)), max(2, round(_RING * scale))
    near = dilate(tumour, gap)
    ring = dilate(tumour, reach) & ~near & head
    figures = {"lesion_mae": float(np.mean(np.abs(output[tumour] - target[tumour])))}
    if ring.any():
        figures["lesion_contrast"] = float(output[tumour].mean() - output[ring].mean())
        figures["lesion_contrast_real"] = float(target[tumour].mean() - target[ring].mean())
    healthy = deep_tissue(head) & ~near
    if healthy.any():
        bright = float(np.median(target[tumour]))
        invented = (output >= bright) & (target < bright - _MARGIN)
        figures["false_hyperintense"] = float(invented[healthy].mean())
    return figures


def deep_tissue(head: Mask) -> Mask:
    """Head masks [S, H, W] with cavities closed and without the outer 8 pixels (of 128)."""
    scale = head.shape[-1] / _REFERENCE_PIXELS
    cavity, scalp = max(1, round(_CAVITY * scale)), max(1, round(_SCALP * scale))
    return erode(erode(dilate(head, cavity), cavity), scalp)
