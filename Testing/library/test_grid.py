"""Slices on the model grid and back: places in mm, orientation, identity, aliasing."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.errors import InvalidParameter, InvalidVolume
from midiffusion.images.grid import SliceGrid, resampling_matrix
from midiffusion.images.volume import Volume
from midiffusion.pipeline.slice import Slice


def oblique(rng: np.random.Generator, spacing: tuple[float, ...], left_handed: bool) -> np.ndarray:
    """A random rotation times a random signed permutation of the axes, with an origin."""
    turn, _ = np.linalg.qr(np.eye(3) + 0.25 * rng.standard_normal((3, 3)))
    axes = turn[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    if (np.linalg.det(axes) < 0) != left_handed:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = rng.uniform(-100, 100, 3)
    return matrix


def world(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS of every voxel, [k, j, i, 3]."""
    k, j, i = np.indices(shape)
    return np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]


def blob(volume_matrix: np.ndarray, shape: tuple[int, ...], centre: np.ndarray, width: float):
    distance = world(volume_matrix, shape) - centre
    return np.exp(-0.5 * (distance**2).sum(-1) / width**2).astype(np.float32)


def centroid(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    weights = np.clip(values, 0, None).astype(np.float64)
    return np.einsum("kji,kjix->x", weights, world(matrix, values.shape)) / weights.sum()


@pytest.mark.parametrize("seed", range(12))
def test_landmarks_keep_their_world_coordinates(seed):
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.uniform(0.4, 4.0, 3))
    extent = rng.uniform(60, 110, 3)
    shape = tuple(int(extent[a] / spacing[a]) | 1 for a in (2, 1, 0))
    matrix = oblique(rng, spacing, left_handed=bool(seed % 2))
    orientation = ("axial", "sagittal", "coronal")[seed % 3]
    grid = SliceGrid.of(Volume(np.zeros(shape), matrix), 1.3, orientation, 16)
    half = np.array(shape[::-1]) / 2 - 0.5
    for _ in range(3):
        index = half + rng.uniform(-0.2, 0.2, 3) * half
        source = blob(matrix, shape, matrix[:3, :3] @ index + matrix[:3, 3], width=6.0)
        back = grid.to_volume(grid.to_slices(source))
        assert back.shape == source.shape and back.dtype == np.float32
        shift = centroid(back, matrix) - centroid(source, matrix)
        assert np.linalg.norm(shift) < 0.02  # mm
        assert np.abs(back - source).max() < 0.03


def test_a_slice_places_its_pixels_where_the_source_has_them():
    # An independent way round: where a pixel of a slice must lie in mm follows from the display
    # convention alone; the source's function of position is then evaluated there.
    matrix = np.diag([-0.8, -0.8, 5.0, 1.0])  # LPS-like: i to the left, j to the back
    shape = (7, 101, 91)
    centre = matrix[:3, :3] @ np.array([45, 50, 3])
    values = blob(matrix, shape, centre + [9.0, -13.0, 5.0], width=7.0)
    grid = SliceGrid.of(Volume(values, matrix), 1.0, "axial", 8)
    slices = grid.to_slices(values)
    _, height, width = slices.shape
    # 91 voxels of 0.8 mm need 73 pixels, which start (80 - 73) // 2 pixels from the left.
    pixels_r, pixels_c = 81, 73
    assert (height, width) == (88, 80)
    rows = np.arange(height) - (height - pixels_r) // 2 - (pixels_r - 1) / 2
    columns = np.arange(width) - (width - pixels_c) // 2 - (pixels_c - 1) / 2
    r = centre[0] - columns[None, :]  # columns: right -> left, so R falls
    a = centre[1] - rows[:, None]  # rows: anterior -> posterior
    expected = np.exp(-0.5 * ((r - centre[0] - 9) ** 2 + (a - centre[1] + 13) ** 2) / 49)
    assert np.abs(slices[4] - expected).max() < 0.01


@pytest.mark.parametrize(
    ("orientation", "slices", "rows", "columns"),
    [("axial", 2, 1, 0), ("sagittal", 0, 2, 1), ("coronal", 1, 2, 0)],
)
def test_orientation_does_not_depend_on_how_the_source_is_stored(
    orientation, slices, rows, columns
):
    rng = np.random.default_rng(1)
    # The same anatomy (a function of RAS) stored in every order and direction of the axes.
    seen = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        order, signs = rng.permutation(3), rng.choice([-1, 1], 3)
        counts = np.array([66, 70, 74])[order]  # along i, j, k
        matrix = np.eye(4)
        matrix[:3, :3] = np.eye(3)[:, order] * signs
        matrix[:3, 3] = -matrix[:3, :3] @ ((counts - 1) / 2)
        shape = tuple(counts[::-1])
        data = blob(matrix, shape, np.array([9.0, 14.0, 21.0]), width=8.0)
        seen.append(SliceGrid.of(Volume(data, matrix), 1.0, orientation, 2).to_slices(data))
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], atol=1e-5)
    peak = np.unravel_index(seen[0].argmax(), seen[0].shape)
    offset = np.array(peak) - (np.array(seen[0].shape) - 1) / 2
    position = np.array([9.0, 14.0, 21.0])
    sign = {"axial": (1, -1, -1), "sagittal": (-1, -1, -1), "coronal": (-1, -1, -1)}[orientation]
    np.testing.assert_allclose(offset, position[[slices, rows, columns]] * sign, atol=0.6)


def test_same_pixel_size_is_the_identity_even_for_odd_sizes():
    data = np.random.default_rng(0).standard_normal((3, 71, 93)).astype(np.float32)
    grid = SliceGrid.of(Volume(data, np.eye(4)), 1.0, "axial", 16)
    assert grid.shape == (3, 80, 96)
    np.testing.assert_allclose(grid.to_volume(grid.to_slices(data)), data, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (300, 2, 1), (2, 33, 130)])
def test_any_size_gives_slices_the_network_can_take_and_comes_back(shape):
    data = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    grid = SliceGrid.of(Volume(data, np.diag([0.4, 6.0, 2.0, 1])), 1.0, "axial", 24)
    slices = grid.to_slices(data)
    assert slices.shape == grid.shape
    assert slices.shape[1] >= 64 and slices.shape[1] % 24 == slices.shape[2] % 24 == 0
    assert grid.to_volume(slices).shape == shape


def test_padding_is_air_on_both_sides():
    grid = SliceGrid.of(Volume(np.ones((2, 20, 30)), np.eye(4)), 1.0, "axial", 8)
    slice_ = grid.to_slices(np.ones((2, 20, 30)))[0]
    inside = np.argwhere(slice_ != 0)
    assert (inside.min(0) == [22, 17]).all() and (inside.max(0) == [41, 46]).all()
    np.testing.assert_allclose(slice_[22:42, 17:47], 1, atol=1e-6)


def test_what_the_model_makes_outside_the_field_of_view_does_not_leak_in():
    data = np.ones((1, 21, 33), np.float32)
    grid = SliceGrid.of(Volume(data, np.diag([1.7, 0.6, 1, 1])), 1.0, "axial", 8)
    slices = grid.to_slices(data)
    slices[slices == 0] = 100.0
    np.testing.assert_allclose(grid.to_volume(slices), 1, atol=1e-5)


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.cos(np.pi * 0.9 * np.arange(200))  # period of 2.2 samples
    matrix = resampling_matrix(200, 0.4, 80, 1.0)
    assert np.abs((matrix @ stripes)[5:-5]).max() < 0.02


@pytest.mark.parametrize(("n", "step"), [(41, 0.37), (40, 1.0), (7, 6.0), (1, 3.0)])
def test_resampling_keeps_constants_and_lines(n, step):
    count = max(1, round(n * step / 0.9))
    matrix = resampling_matrix(n, step, count, 0.9)
    np.testing.assert_allclose(matrix.sum(1), 1)
    position = (np.arange(n) - (n - 1) / 2) * step
    wanted = (np.arange(count) - (count - 1) / 2) * 0.9
    found = matrix @ position
    inner = np.abs(wanted) < position.max() - 3 * max(step, 0.9) if n > 1 else wanted == 0
    np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-9 + 0.02 * step)


def test_refusals():
    volume = Volume(np.zeros((2, 300, 300)), np.eye(4))
    with pytest.raises(InvalidParameter, match="axial, sagittal, coronal"):
        SliceGrid.of(volume, 1.0, "oblique", 8)
    with pytest.raises(InvalidVolume, match="correct its spacing"):
        SliceGrid.of(Volume(volume.data, np.diag([1, 300.0, 1, 1])), 1.0, "axial", 8)


@pytest.mark.parametrize("tilt", [15, -25])
@pytest.mark.parametrize("thin", [False, True])
def test_slices_of_a_tilted_gantry_are_cut_in_their_own_plane(tilt, thin):
    """The result of slicing is that of the same slices, straight."""
    data = np.random.default_rng(0).random((9, 20, 24), dtype=np.float32)
    straight = np.diag([-1.0, -1, 1 if thin else 4, 1])
    tilted = straight.copy()
    tilted[1, 2] = np.tan(np.deg2rad(tilt)) * straight[2, 2]
    assert Slice().planes(Volume(data, tilted)) == ("axial",)
    slices = [
        SliceGrid.of(Volume(data, matrix), 1.0, "axial", 8).to_slices(data)
        for matrix in (straight, tilted)
    ]
    np.testing.assert_array_equal(*slices)
