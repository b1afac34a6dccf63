"""A result compared with a reference volume of the scene, in the worker process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from midiffusion.errors import InvalidVolume

from ..worker.job import WorkerJob
from .tables import addRow, addTable
from .volumes import ATTRIBUTE_PREFIX, volumeFromNode

COLUMNS = (
    ("Result", str),
    ("Reference", str),
    ("SSIM", float),
    ("PSNR (dB)", float),
    ("MAE", float),
    ("MAE (HU)", float),
    ("MI (nats)", float),
    ("Covered (%)", float),
)
_MARK = ATTRIBUTE_PREFIX + "table"


def beginComparison(
    logic: Any, result: Any, reference: Any, onDone: Callable[[WorkerJob], object]
) -> WorkerJob:
    """Begin to compare; the job's `result` holds the figures of midiffusion.compare.

    Raises InvalidVolume for volumes that can't be compared.
    """
    if result is None or reference is None:
        raise InvalidVolume("Choose a result and a reference to compare it with.")
    if result is reference:
        raise InvalidVolume("A volume can't be its own reference: choose another.")
    intensity = result.GetAttribute(ATTRIBUTE_PREFIX + "intensity")
    if intensity is None:
        raise InvalidVolume(
            f"'{result.GetName()}' is no result of MIDiffusion: choose one that is."
        )
    synthetic, real = volumeFromNode(result), volumeFromNode(reference)
    return logic.begin(
        "compare",
        {
            "intensity": json.loads(intensity),
            "synthetic_ijkToRAS": synthetic.ijkToRAS.tolist(),
            "reference_ijkToRAS": (_between(reference, result) @ real.ijkToRAS).tolist(),
        },
        name="comparison",
        onDone=onDone,
        arrays={"synthetic": synthetic.data, "reference": real.data},
    )


def _between(reference: Any, result: Any) -> np.ndarray:
    """From the space in which the reference lies to that of the result: they may move apart.

    Raises InvalidVolume for transforms that are not linear.
    """
    matrix = vtk.vtkMatrix4x4()
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        reference.GetParentTransformNode(), result.GetParentTransformNode(), matrix
    ):
        raise InvalidVolume(
            "The reference and the result are under transforms that are not linear: harden them "
            "first."
        )
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def addComparison(result: Any, reference: Any, figures: dict[str, Any]) -> Any:
    """The figures as one more row of the scene's table of comparisons, which is returned."""
    scene = result.GetScene()
    count = scene.GetNumberOfNodesByClass("vtkMRMLTableNode")
    tables = [scene.GetNthNodeByClass(n, "vtkMRMLTableNode") for n in range(count)]
    table = next((t for t in tables if t.GetAttribute(_MARK) == "comparison"), None)
    if table is None:
        table = addTable(scene, "MIDiffusion comparisons", COLUMNS)
        table.SetAttribute(_MARK, "comparison")
    numbers = [figures[key] for key in ("ssim", "psnr", "mae", "mae_hu", "mi")]
    addRow(table, [result.GetName(), reference.GetName(), *numbers, 100 * figures["covered"]])
    return table
