"""The head in slices, on phantoms whose head is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion.images.anatomy import (
    grow,
    head_of,
    reached_from_edge,
    without_couch,
)
from scipy import ndimage

SOLID = 0.2


def ct_slice(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A head of skin, bone and brain with an open nose on a thin couch; (slice, its head)."""
    y, x = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(x / 0.8, y)
    head = radius < 40
    image = np.where(head, 0.33, 0.0)
    image[(radius < 37) & (radius > 33)] = 0.7
    image[(np.abs(x) < 2) & (y < -25)] = 0.0  # an airway that opens to the outside
    image[114:116, 20:108] = 0.4  # couch, a few pixels away
    image[100:114, 63:65] = 0.3  # a strap that ties the head to it
    return image.astype(np.float32), head


def test_couch_and_strap_go_and_the_head_stays():
    image, head = ct_slice()
    slices = torch.from_numpy(image)[None, None]
    result = without_couch(slices, 190 / 114, SOLID)[0, 0].numpy()
    assert result[114:116].max() == 0
    assert result[112].max() == 0
    deep = head & (np.hypot(*((np.mgrid[:128, :128] - 64)[::-1])) < 30)
    assert np.array_equal(result[deep], image[deep])  # the airway's air included
    assert (result > 0)[head].mean() > 0.97 * (image > 0)[head].mean()


def test_each_slice_is_its_own():
    image, _ = ct_slice()
    pair = torch.from_numpy(np.stack([image, np.roll(image, 7, axis=1)]))[:, None]
    together = without_couch(pair, 1.7, SOLID)
    alone = torch.cat([without_couch(one[None], 1.7, SOLID) for one in pair])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("count", [0, 3])
def test_slices_without_a_head_come_back_unchanged(count):
    faint = torch.rand(count, 1, 64, 64) * 0.19
    assert torch.equal(without_couch(faint, 1.7, SOLID), faint)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.75])
def test_air_is_reached_from_the_edge_round_every_corner(share):
    rng = np.random.default_rng(5)
    air = rng.random((4, 40, 56)) < share
    found = reached_from_edge(torch.from_numpy(air).float()[:, None])[:, 0].numpy()
    for mask, each in zip(air, found, strict=True):
        parts, _ = ndimage.label(mask)
        edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        assert np.array_equal(each > 0, np.isin(parts, edge[edge > 0]))


def test_a_slice_of_more_than_a_million_pixels():
    """Whose numbers of pixels times its side don't fit into 32 bits."""
    air = np.zeros((1400, 1400), np.float32)
    air[0, 700] = air[1:1399, 700] = air[1398, 2:700] = 1  # from the edge, round a corner
    air[5, 5] = 1
    found = reached_from_edge(torch.from_numpy(air)[None, None])[0, 0].numpy()
    air[5, 5] = 0
    assert np.array_equal(found, air)


def test_the_head_has_its_holes():
    y, x = np.mgrid[:64, :64] - 32
    radius = np.hypot(x, y)
    ring = np.where((radius < 20) & (radius > 12), 0.5, 0.02)
    head = head_of(torch.from_numpy(ring.astype(np.float32))[None, None])
    assert np.array_equal(head[0, 0].numpy() > 0, radius < 20)
    rim = grow(head, 1)[0, 0].numpy() > 0
    assert np.array_equal(rim, ndimage.binary_dilation(radius < 20))
