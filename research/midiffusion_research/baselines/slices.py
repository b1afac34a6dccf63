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
from midiffusion.errors import InvalidData
from midiffusion.images.anatomy import SOLID_HU, without_couch
from midiffusion.images.intensity import CT_WINDOW, SourceIntensity, is_ct
from midiffusion.images.volume import Volume
from numpy.typing import NDArray
from torch import Tensor

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


def source_units(slices: Volume) -> tuple[NDArray[np.float32], bool]:
    """A source [S, H, W] in [0, 1.25], scaled as in the pipeline, and whether it is a CT."""
    acquired = as_acquired(slices)
    ct = is_ct(acquired.data, acquired.modality)
    units, _ = SourceIntensity().forward(acquired.data, "CT" if ct else "MR")
    return units, ct


def source_slices(slices: Volume, size: int) -> Tensor:
    """A source, [S, 1, size, size] in [0, 1.25], a CT without the couch."""
    units, ct = source_units(slices)
    stack = _square(units, size)
    if not ct:
        return stack
    solid = float(np.interp(SOLID_HU, *CT_WINDOW))
    return without_couch(stack, pixel_mm(slices, size), solid)


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
