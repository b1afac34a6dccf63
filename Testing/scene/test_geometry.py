"""Places: a result lies where its source lies, through a scene, the real worker and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from midiffusion.images.volume import Volume
from midiffusion.pipeline.target import load_model
from scene.phantoms import ijkToRAS, orthogonal, parentMatrix, vtkMatrix

BALL_MM = 9.0
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
        self.plain = (5 * plain).astype(np.int16)  # too many values for a label map
        self.data = self.plain.copy()
        self.balls = []
        for place in PLACES:
            centre = np.array([*half, case.slices * case.slice_mm / 2]) * place
            centre[:2] += rng.uniform(-3, 3, 2)
            if case.slices == 1:
                centre[2] = 0
            ball = np.linalg.norm(own - centre[:, None, None, None], axis=0) < BALL_MM
            self.balls.append(ball)
            self.data[ball] = 450


@pytest.mark.parametrize(
    "name",
    [
        name if name == "left-handed" else pytest.param(name, marks=pytest.mark.slow)
        for name in CASES
    ],
)
def test_result_lies_where_its_source_lies_in_the_world(
    name: str, scene: Any, addVolume: Any, logic: Any, flair: Path
) -> None:
    """The same head, stored along R, A and S and translated by the library, is the oracle."""
    case = CASES[name]
    phantom = Phantom(case, seed=list(CASES).index(name))
    assert (np.linalg.det(phantom.matrix) < 0) == (name in ("left-handed", "slices along i"))
    parent = np.eye(4)
    parent[:3, 3] = 30, -20, 10
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtkMatrix(parent))
    source = addVolume(phantom.data, phantom.matrix)
    source.SetAndObserveTransformNodeID(transform.GetID())
    node = logic.translate(source, flair, views=1, device="cpu")
    np.testing.assert_array_equal(ijkToRAS(node), ijkToRAS(source))
    np.testing.assert_array_equal(parentMatrix(node), parent)
    assert node.GetTransformNodeID() == transform.GetID()
    assert node.GetImageData().GetDimensions() == phantom.data.shape[::-1]

    # Index axes in the order R, A, S, each in its positive direction.
    axes = [case.order.index(axis) for axis in range(3)]
    flips = [2 - axis for axis in range(3) if case.signs[axes[axis]] < 0]
    matrix = phantom.matrix[:, [*axes, 3]].copy()
    upright = np.transpose(phantom.data, [2 - axis for axis in reversed(axes)])
    for n, axis in enumerate(axes):
        if case.signs[axis] < 0:
            matrix[:3, 3] += matrix[:3, n] * (phantom.data.shape[2 - axis] - 1)
            matrix[:3, n] *= -1
    upright = np.flip(upright, flips)
    expected = load_model(flair).translate(Volume(upright, matrix), views=1, device="cpu")
    found = np.transpose(slicer.util.arrayFromVolume(node), [2 - axis for axis in reversed(axes)])
    difference = np.abs(np.flip(found, flips) - expected.volume.data)
    assert expected.volume.data.max() > 300
    assert difference.max() < 0.03 * expected.volume.data.max()
