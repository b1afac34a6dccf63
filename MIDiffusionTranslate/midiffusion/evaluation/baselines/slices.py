"""What the learners see of a subject: square slices of one size, model units, air round them.

A learner knows a picture, not a patient: slices are padded with air to a square and brought to its
size, and its output goes the same way back. As in our own path, a CT is seen without the couch,
as source and as something to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...contrast import nearer_contrast
from ...errors import InvalidData
from ...head import SOLID_HU, without_couch
from ...source import Source
from ...volume import Volume
from ..datasets.subject import HU_OF_ZERO, HU_PER_UNIT, Subject, area_average, as_acquired


def target_slices(name: str, train: Sequence[Subject], size: int) -> Tensor:
    """The targets of all subjects, [N, 1, size, size]; raises InvalidData for no subjects, naming
    the method `name`."""
    _check(name, train)
    stacks = []
    for subject in train:
        stack = _square(subject.target, size)
        if subject.target_modality == "CT":
            solid = (SOLID_HU - HU_OF_ZERO) / HU_PER_UNIT
            stack = without_couch(stack, pixel_mm(subject.source, size), solid)
        stacks.append(stack)
    return torch.cat(stacks)


def paired_slices(name: str, train: Sequence[Subject], size: int) -> tuple[Tensor, Tensor]:
    """Sources and targets of all subjects, slice by slice the same anatomy; as `target_slices`."""
    targets = target_slices(name, train, size)
    return torch.cat([source_slices(subject.source, size) for subject in train]), targets


def source_slices(slices: Volume, size: int, shown_to: str | None = None) -> Tensor:
    """A source, [S, 1, size, size] in [0, 1.25], as it is in our own path too.

    shown_to: modality of the target, for methods that are shown a source as its model is (see
    `contrast`); None: as it is, for those that learn from sources or are published so.
    """
    source = Source.of(as_acquired(slices))
    side_mm = pixel_mm(slices, size)
    stack = source.without_couch(_square(source.units, size), side_mm)
    if shown_to is None:
        return stack
    return nearer_contrast(stack, side_mm, source_is_ct=source.is_ct, target_is_ct=shown_to == "CT")


def on_grid_of(slices: Volume, output: Tensor) -> NDArray[np.float32]:
    """What a learner made of `source_slices`, [S, 1, size, size], on the source's own grid [S, H,
    W]: above the learner's size a blurred image, which no interpolation mends."""
    height, width = slices.data.shape[1:]
    side = max(height, width)
    output = output.detach().float().cpu()
    if output.shape[-1] != side:
        output = F.interpolate(output, (side, side), mode="bicubic", antialias=True)
    top, left = (side - height) // 2, (side - width) // 2
    cut: NDArray[np.float32] = output[:, 0, top : top + height, left : left + width].numpy()
    return cut


def _square(images: NDArray[np.generic], size: int) -> Tensor:
    """[S, H, W] -> [S, 1, size, size]: by exact area averaging, or up by cubic interpolation."""
    height, width = images.shape[1:]
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    pads = ((0, 0), (above, side - height - above), (left, side - width - left))
    padded = np.pad(np.asarray(images, dtype=np.float32), pads)
    if side >= size:
        return torch.from_numpy(area_average(padded, size))[:, None]
    larger = F.interpolate(torch.from_numpy(padded)[:, None], (size, size), mode="bicubic")
    return larger.clamp_(min=0)  # cubic interpolation swings below air


def pixel_mm(slices: Volume, size: int) -> float:
    """In-plane size of a pixel of `source_slices`, millimetres."""
    return float(slices.spacing_mm[0]) * max(slices.data.shape[1:]) / size


def _check(name: str, train: Sequence[Subject]) -> None:
    if not train:
        raise InvalidData(f"The method '{name}' needs training subjects.")
