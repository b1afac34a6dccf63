"""Volumes of known content and geometry, in numpy and in VTK's terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

# Anisotropic and oblique; `orthogonal` removes the shear that rounding left.
_OBLIQUE = np.array(
    [
        [-2.7188, -0.7071, 0.5163, 71.3],
        [0.6910, -2.9088, 0.3512, 96.25],
        [0.2512, 0.2588, 4.9612, -57.125],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix without shear that keeps the columns' lengths."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    u, _, v = np.linalg.svd(matrix[:3, :3] / lengths)
    clean = matrix.copy()
    clean[:3, :3] = u @ v * lengths
    return clean


def vtkMatrix(matrix: np.ndarray) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    return result


def numpyMatrix(matrix: Any) -> np.ndarray:
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def ijkToRAS(node: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return numpyMatrix(matrix)


def parentMatrix(node: Any) -> np.ndarray:
    """The matrix of the node's linear parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetParentTransformNode().GetMatrixTransformToParent(matrix)
    return numpyMatrix(matrix)


def imageOf(data: np.ndarray, components: int = 1) -> Any:
    """vtkImageData with data [k, j, i] or [k, j, i, components]."""
    image = vtk.vtkImageData()
    image.SetDimensions(*data.shape[2::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(data).reshape(-1, components), deep=True)
    image.GetPointData().SetScalars(scalars)
    return image


def head(shape: tuple[int, int, int] = (5, 31, 26), seed: int = 0) -> np.ndarray:
    """Something like a head [k, j, i] in int16: an ellipsoid of tissue with structure, air 0."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (k / 1.5) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1
    texture = 500 + 200 * np.sin(7 * i + 3 * j) + 150 * np.cos(9 * j - 4 * k)
    noise = np.random.default_rng(seed).normal(0, 10, shape)
    return np.where(inside, texture + noise, 0).astype(np.int16)


OBLIQUE = orthogonal(_OBLIQUE)
