"""The shape of the head in slices: without what touches it, and its inside without the scalp.

A CT shows what the patient lies on; no other modality does. A bright layer round the scalp that
only one of two modalities has is the worst a structure descriptor can be given, so it is removed
from CT sources, and from the images that CT models learn from. And where the source shows air, or
nothing, there is nothing to translate: a result has air there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def connected(seeds: Tensor, mask: Tensor) -> Tensor:
    """Largest seed that each pixel of the mask is connected to through the sides of pixels, 0
    elsewhere. seeds: whole numbers, up to the number of pixels of a slice; both [S, 1, H, W]."""
    above = seeds.shape[1:].numel() + 1  # any seed
    # What a lift can come to: 32 bits take half the time of 64.
    highest = above * (max(seeds.shape[-2:]) + 1)
    whole = torch.int32 if highest <= torch.iinfo(torch.int32).max else torch.int64
    found, inside = (seeds * mask).to(whole), mask.to(whole)
    ways = [(dim, back) for dim in (-2, -1) for back in (False, True)]
    # Every wall lifts what comes after it above all before it: a running maximum starts anew there.
    lifts = [_turned(1 - inside, *way).cumsum(way[0], dtype=whole) * above for way in ways]
    while True:
        # Along whole runs of the mask, one way after the other: few rounds, however far it is.
        grown = found
        for way, lift in zip(ways, lifts, strict=True):
            runs = (_turned(grown, *way) + lift).cummax(way[0]).values - lift
            grown = _turned(runs, *way) * inside
        if torch.equal(grown, found):
            return found.to(seeds.dtype)
        found = grown


def _turned(image: Tensor, dim: int, back: bool) -> Tensor:
    return image.flip(dim) if back else image


def _largest(mask: Tensor) -> Tensor:
    """The largest connected part of each slice."""
    count, pixels = len(mask), mask.shape[1:].numel()
    numbers = torch.arange(1, pixels + 1, dtype=mask.dtype, device=mask.device)
    labels = connected(numbers.view(1, *mask.shape[1:]) * mask, mask)
    flat = labels.flatten(1).long()
    sizes = torch.zeros(count, pixels + 1, device=mask.device)
    sizes.scatter_add_(1, flat, torch.ones_like(sizes[:, :pixels]))
    sizes[:, 0] = 0
    return (flat == sizes.argmax(dim=1, keepdim=True)).view_as(mask).to(mask.dtype) * mask


def reached_from_edge(air: Tensor) -> Tensor:
    """The air [S, 1, H, W], 0 or 1, that is connected to the edge of its slice, through the sides
    of pixels; like `air`."""
    edge = torch.ones_like(air)
    edge[..., 1:-1, 1:-1] = 0
    return connected(edge, air)
