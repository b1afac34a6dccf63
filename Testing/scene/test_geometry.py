"""Where things are, through the whole trained path: a scene, the real worker, the real weights.

Each volume holds a head that is the same in all its slices but for balls of fluid. Slices share
their noise, so what differs between the slices of the result is what the model made of the balls,
and that must lie where the balls lie in the world. Four network evaluations place a ball to about
a millimetre; the conditional mean of a single one smears it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from scene.phantoms import ijkToRAS, orthogonal, parentMatrix, vtkMatrix

BALL_MM = 9.0
PIXEL_MM = 1.67  # of the model
# Of the head's radii and of half the stack; no two alike, whichever way an axis is turned.
PLACES = [
    (0.36, 0.28, -0.7),
    (-0.42, -0.06, -0.35),
    (0.1, -0.45, 0.05),
    (-0.2, 0.45, 0.4),
    (0.4, -0.24, 0.75),
]


@dataclass(frozen=True)
class Case:
    """What is said of a volume; tilt, position, exact size and the balls' places are drawn."""

    order: tuple[int, int, int]  # which of R, A, S the indices i, j, k run along most
    signs: tuple[int, int, int]  # and in which direction
    slices: int
    slice_mm: float
    pixel_mm: tuple[float, float]  # along R and A
    extent_mm: tuple[float, float] = (150.0, 186.0)  # along R and A


CASES = {
    "one slice": Case((0, 1, 2), (-1, -1, 1), 1, 5.0, (0.9, 1.3)),
    "300 slices": Case((0, 1, 2), (1, 1, 1), 300, 0.6, (2.2, 1.9), (107.0, 133.0)),
    "left-handed": Case((0, 1, 2), (-1, 1, 1), 9, 6.0, (0.4, 2.6)),
    "top first": Case((1, 0, 2), (1, 1, -1), 12, 3.4, (3.1, 0.7)),
    "slices along i": Case((2, 1, 0), (1, 1, 1), 11, 4.2, (1.1, 1.7)),
    "slices along j": Case((1, 2, 0), (1, -1, -1), 14, 2.5, (1.6, 2.1)),
    "large voxels": Case((0, 1, 2), (-1, -1, 1), 8, 6.0, (3.0, 6.0)),
}


class Phantom:
    """data and plain (the same without balls): int16 [k, j, i]; matrix: its ijkToRAS, oblique;
    balls: their masks; axis: that of data along which the slices lie."""

    def __init__(self, case: Case, seed: int) -> None:
        rng = np.random.default_rng(seed)
        spacing = [(*case.pixel_mm, case.slice_mm)[axis] for axis in case.order]
        size = [
            case.slices if axis == 2 else int(case.extent_mm[axis] / step) + rng.integers(3) | 1
            for axis, step in zip(case.order, spacing, strict=True)
        ]
        self.axis = 2 - case.order.index(2)
        self.matrix = np.eye(4)
        # Millimetres from the middle along those axes of the volume that are nearest R, A and S.
        own = np.empty((3, *size[::-1]))
        index = np.indices(size[::-1])[::-1]
        for n, axis in enumerate(case.order):
            direction = rng.normal(0, 0.15, 3)
            direction[axis] = case.signs[n]
            self.matrix[:3, n] = spacing[n] * direction / np.linalg.norm(direction)
            own[axis] = (index[n] - (size[n] - 1) / 2) * spacing[n] * case.signs[n]
        self.matrix = orthogonal(self.matrix)
        self.matrix[:3, 3] = rng.uniform(-120, 120, 3)
        half = np.array(case.extent_mm) * 0.44
        own[0] -= 0.04 * case.extent_mm[0]  # off the centre
        own[1] += 0.04 * case.extent_mm[1]
        radius = np.hypot(own[0] / half[0], own[1] / half[1])
        tissue = 380 + 60 * np.sin(own[0] / 9) * np.cos(own[1] / 11)
        plain = np.where(radius < 1, np.where(radius > 1 - 7 / half.mean(), 900, tissue), 0)
        self.plain = plain.astype(np.int16)
        self.data = self.plain.copy()
        self.balls = []
        for place in PLACES:
            centre = np.array([*half, case.slices * case.slice_mm / 2]) * place
            centre[:2] += rng.uniform(-3, 3, 2)
            if case.slices == 1:
                centre[2] = 0
            ball = np.linalg.norm(own - centre[:, None, None, None], axis=0) < BALL_MM
            self.balls.append(ball)
            self.data[ball] = 90


@pytest.mark.parametrize("name", CASES)
def test_balls_keep_their_place_in_the_world(
    name: str, scene: Any, addVolume: Any, logic: Any, flair: Path
) -> None:
    case = CASES[name]
    phantom = Phantom(case, seed=list(CASES).index(name))
    assert (np.linalg.det(phantom.matrix) < 0) == (name in ("left-handed", "slices along i"))
    parent = np.eye(4)
    parent[:3] += np.random.default_rng(9).normal(0, 0.1, (3, 4)) * [1, 1, 1, 300]
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtkMatrix(parent))

    def translated(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The result, and the place [..., 3] of its voxels in the world."""
        source = addVolume(data, phantom.matrix)
        source.SetAndObserveTransformNodeID(transform.GetID())
        node = logic.translate(source, flair, steps=4, device="cpu")
        np.testing.assert_array_equal(ijkToRAS(node), ijkToRAS(source))
        np.testing.assert_array_equal(parentMatrix(node), parent)
        assert node.GetTransformNodeID() == transform.GetID()
        assert node.GetImageData().GetDimensions() == data.shape[::-1]
        k, j, i = np.indices(data.shape)
        place = np.stack((i, j, k, np.ones_like(i)), -1) @ (parentMatrix(node) @ ijkToRAS(node)).T
        return slicer.util.arrayFromVolume(node), place[..., :3]

    result, world = translated(phantom.data)
    # The same noise: what differs are the balls, and slices without one not at all.
    without, _ = translated(phantom.plain)
    change = np.abs(result - without)

    centres = [(world - world[ball].mean(axis=0)) for ball in phantom.balls]
    # The parent stretches: distances are measured in the volume's own millimetres.
    toOwn = np.linalg.inv(parent[:3, :3])
    away = np.array([np.linalg.norm(offset @ toOwn.T, axis=-1) for offset in centres])
    normal = phantom.matrix[:3, 2 - phantom.axis] / case.slice_mm
    inPlane = tuple(axis for axis in range(3) if axis != phantom.axis)
    shifts = []
    for n, offset in enumerate(centres):
        around = np.where((away.argmin(axis=0) == n) & (away[n] < 2 * BALL_MM), change, 0)
        weights = np.where(around > around.max() / 2, around, 0)
        shift = toOwn @ np.average(offset.reshape(-1, 3), axis=0, weights=weights.ravel())
        # How much a slice changes is chance, noise being its own; which slices change is not.
        touched = around.max(axis=inPlane) > 0.12 * around.max()
        heights = np.moveaxis(offset @ toOwn.T @ normal, phantom.axis, 0).mean(axis=(1, 2))
        shifts.append(shift + (heights[touched].mean() - shift @ normal) * normal)
    along = np.array(shifts) @ normal
    across = np.array(shifts) - along[:, None] * normal
    inside = change[np.any(phantom.balls, axis=0)].mean()
    assert inside > 5 * change[away.min(axis=0) > 2.5 * BALL_MM].mean()
    # Mostly in the ball; and no shift of all: neither by a pixel of the model nor by a slice.
    assert np.linalg.norm(shifts, axis=1).max() < BALL_MM, shifts
    assert np.linalg.norm(np.median(across, axis=0)) < PIXEL_MM, across
    assert np.abs(np.median(along)) < 0.5 * case.slice_mm, along
