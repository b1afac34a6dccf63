"""The shipped model with its real weights: a head stays where it is in the world."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.intensity import head_mask
from midiffusion.model import load_model
from midiffusion.volume import Volume

AXES_MM = np.array([74.0, 92.0, 90.0])


def phantom(place: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Skin round grey tissue with dark ventricles, as a function of RAS [..., 3]."""
    radius = np.linalg.norm((place - centre) / AXES_MM, axis=-1)
    data = np.where(radius < 1, np.where(radius > 0.94, 900.0, 380.0), 0.0)
    for side in (-14, 14):
        away = np.linalg.norm((place - centre - [side, 0, 0]) / [7, 24, 30], axis=-1)
        data[away < 1] = 120
    return data


def bounds(data: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Where the head begins, lies and ends along R and A, [3, 2] mm; each from many voxels."""
    inside = place[head_mask(data)][:, :2]
    return np.stack([*np.percentile(inside, (5, 95), axis=0), inside.mean(0)])


@pytest.mark.parametrize(
    ("spacing", "left_handed"), [((0.9, 1.1, 6.0), False), ((2.3, 0.8, 5.0), True)]
)
def test_the_head_comes_back_where_it_was(spacing, left_handed):
    rng = np.random.default_rng(2)
    axes, _ = np.linalg.qr(np.eye(3) + 0.06 * rng.standard_normal((3, 3)))
    if (np.linalg.det(axes) < 0) != left_handed:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = [60, -35, 110]
    shape = (int(34 / spacing[2]), int(225 / spacing[1]) | 1, int(190 / spacing[0]))
    k, j, i = np.indices(shape)
    place = np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]
    middle = matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2) + matrix[:3, 3]
    data = phantom(place, middle + [9, -7, 4])  # off the centre: a mirrored result shows
    volume = Volume(data, matrix, "MR")
    result = load_model("flair").translate(volume, steps=9, device="cpu").volume
    assert result.data.shape == shape and np.array_equal(result.ijkToRAS, matrix)
    shift = np.abs(bounds(result.data, place) - bounds(data, place))
    assert shift[:2].max() < 3, shift  # mm: an outline may be a little sharper or softer
    assert shift[2].max() < 1, shift  # mm: but not drift; the model's pixels are 1.7 mm
