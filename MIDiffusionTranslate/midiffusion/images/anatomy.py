"""The shape of the head in slices: without what touches it, and its inside without the scalp.

A CT shows what the patient lies on; no other modality does. A bright layer round the scalp that
only one of two modalities has is the worst a structure descriptor can be given, so it is removed
from CT sources, and from the images that CT models learn from. And where the source shows air, or
nothing, there is nothing to translate: a result has air there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

AIR = 0.03  # model units: what is darker is air

# Above foam, clothes and most of what a head rests on, below fat.
SOLID_HU = -390.0
# Above brain, muscle and blood, below most of a skull that pixels of some millimetres show.
_OPENING_MM = 5.0  # thinner layers, and what hangs on the head by them, are not head
_CLOSING_MM = 30.0  # sinuses and the nose, open to the air, belong to it
_AT_ONCE = 8  # slices: what is worked on at once bounds the memory


def without_couch(slices: Tensor, pixel_mm: float, solid_above: float) -> Tensor:
    """The slices of a CT with air wherever the head is not.

    Per slice: what is solid, opened; of that the largest part; grown back, closed and filled.

    Args:
        slices: [S, 1, H, W], air at 0, in any units that rise with the Hounsfield unit.
        pixel_mm: in-plane pixel size, millimetres.
        solid_above: `SOLID_HU` in these units.

    Returns:
        [S, 1, H, W]; a slice without anything solid comes back unchanged.
    """
    parts = [_without_couch(part, pixel_mm, solid_above) for part in slices.split(_AT_ONCE)]
    return torch.cat(parts) if parts else slices


def _without_couch(slices: Tensor, pixel_mm: float, solid_above: float) -> Tensor:
    """Of slices that are worked on at once."""
    opening, closing = (max(1, round(mm / pixel_mm)) for mm in (_OPENING_MM, _CLOSING_MM))
    solid = (slices > solid_above).float()
    core = _largest(grow(shrink(solid, opening), opening) * solid)
    core = grow_within(core, solid, opening + 1)  # thin walls of the sinuses too, from their roots
    room = F.pad(core, (closing + 1,) * 4)
    closed = shrink(grow(room, closing), closing)
    filled = 1 - reached_from_edge(1 - closed)
    inside = grow(filled[..., closing + 1 : -closing - 1, closing + 1 : -closing - 1], 1)
    empty = core.amax(dim=(1, 2, 3), keepdim=True) == 0
    return torch.where(empty, slices, slices * inside)


def head_of(slices: Tensor, above: float = AIR) -> Tensor:
    """1 in the head, which is what is brighter than `above` and all that it encloses, else 0.

    slices: [S, 1, H, W], model units; the result is like it.
    """
    return 1 - reached_from_edge((slices <= above).to(slices))


def grow(mask: Tensor, pixels: int) -> Tensor:
    """Dilation by an octagon, nearly a disc."""
    for step in range(pixels):
        mask = _grow_once(mask, step)
    return mask


def grow_within(mask: Tensor, room: Tensor, pixels: int) -> Tensor:
    """As `grow`, through `room` alone, a mask like it; what of the mask lies elsewhere goes."""
    for step in range(pixels):
        mask = _grow_once(mask, step) * room
    return mask


def _grow_once(mask: Tensor, step: int) -> Tensor:
    """By one pixel: by a cross at even steps, by a square at odd ones."""
    rows = _with_neighbours(mask, mask, -2)
    return _with_neighbours(rows, rows if step % 2 else mask, -1)


def _with_neighbours(mask: Tensor, of: Tensor, dim: int) -> Tensor:
    """The maximum of `mask` and both neighbours in `of` along a dimension. (Pooling is slower.)"""
    grown, count = mask.clone(), mask.shape[dim] - 1
    for at, other in ((1, 0), (0, 1)):
        part = grown.narrow(dim, at, count)
        torch.maximum(part, of.narrow(dim, other, count), out=part)
    return grown


def shrink(mask: Tensor, pixels: int) -> Tensor:
    """Erosion; beyond the image is taken for inside, so that a cropped head keeps its cut edge."""
    return 1 - grow(1 - mask, pixels)


def _largest(mask: Tensor) -> Tensor:
    """The largest connected part of each slice; like `mask`."""

    def of_plane(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
        labels, count = ndimage.label(plane)
        sizes = np.bincount(labels.ravel(), minlength=2)
        sizes[0] = 0
        return np.asarray(labels == sizes.argmax() if count else plane)

    return _by_plane(mask, of_plane)


def reached_from_edge(air: Tensor) -> Tensor:
    """The air [S, 1, H, W], 0 or 1, that is connected to the edge of its slice, through the sides
    of pixels; like `air`."""

    def of_plane(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
        labels, count = ndimage.label(plane)
        reached = np.zeros(count + 1, bool)
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            reached[edge] = True
        reached[0] = False
        return np.asarray(reached[labels])

    return _by_plane(air, of_plane)


def _by_plane(mask: Tensor, of_plane: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]) -> Tensor:
    """A function of the pixels above 0 of each slice [H, W]; like `mask` [S, 1, H, W]."""
    made = torch.zeros(mask.shape, dtype=torch.bool)
    for number, plane in enumerate(mask[:, 0].cpu().numpy() > 0):
        made[number, 0] = torch.from_numpy(of_plane(plane))
    return made.to(mask)
