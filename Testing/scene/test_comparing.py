"""Comparing a result with a reference: nodes in a real scene, the real worker process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from midiffusion.errors import InvalidVolume
from scene.launching import Spy
from scene.phantoms import head, vtkMatrix

SHIFT = np.array([[1.0, 0, 0, 30], [0, 1, 0, -20], [0, 0, 1, 10], [0, 0, 0, 1]])


@pytest.fixture
def pair(addVolume: Any) -> tuple[Any, Any]:
    """A result that is its reference but for its scale, and the reference."""
    reference = addVolume(name="FLAIR")
    data = head().astype(np.float32)
    result = addVolume(data / np.percentile(data[data > 0.03 * data.max()], 99.5) * 1000)
    result.SetName("Synthetic FLAIR of T1")
    result.SetAttribute("MIDiffusion.intensity", '{"kind": "percentile"}')
    return result, reference


def move(scene: Any, node: Any, matrix: np.ndarray) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtkMatrix(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def columns(table: Any) -> list[str]:
    return [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]


def test_only_results_can_be_compared(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path
) -> None:
    """The deviation and the error map look like results, but their numbers are no intensities."""
    source = addVolume()
    job = logic.start(source, model=tinyModel, errorMap=True, steps=2, samples=2)
    logic.wait(job)
    started = len(spy.processes)
    for node in (job.deviationNode, job.errorMapNode):
        with pytest.raises(InvalidVolume, match="no result"):
            logic.compare(node, source)
    assert len(spy.processes) == started
    assert logic.compare(job.node, source).GetNumberOfRows() == 1


def test_figures_go_to_one_table(
    scene: Any, pair: tuple[Any, Any], logic: Any, handover: Path
) -> None:
    result, reference = pair
    table = logic.compare(result, reference)
    assert columns(table)[:4] == ["Result", "Reference", "SSIM", "PSNR (dB)"]
    assert table.GetCellText(0, 0) == "Synthetic FLAIR of T1"
    assert table.GetCellText(0, 1) == "FLAIR"
    assert float(table.GetCellText(0, 2)) > 0.99
    assert float(table.GetCellText(0, columns(table).index("Covered (%)"))) == 100
    assert table.GetCellText(0, columns(table).index("MAE (HU)")) == "nan"
    # Where the two are brought apart by transforms, the world counts.
    move(scene, reference, SHIFT)
    assert logic.compare(result, reference) is table
    move(scene, result, SHIFT)
    assert logic.compare(result, reference) is table
    ssim = [float(table.GetCellText(row, 2)) for row in range(3)]
    assert ssim[1] < 0.9 and ssim[2] == pytest.approx(ssim[0])
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    assert list(handover.iterdir()) == []


def test_volumes_apart_make_no_table(
    scene: Any, pair: tuple[Any, Any], logic: Any, untouched: Any
) -> None:
    far = SHIFT.copy()
    far[0, 3] = 2000
    move(scene, pair[1], far)
    untouched()
    with pytest.raises(InvalidVolume, match="don't overlap"):
        logic.compare(*pair)
    untouched()


def test_what_can_not_be_compared_starts_no_process(
    scene: Any, pair: tuple[Any, Any], logic: Any, spy: Spy
) -> None:
    result, reference = pair
    for first, second, words in (
        (result, None, "Choose a result and a reference"),
        (result, result, "its own reference"),
        (reference, result, "'FLAIR' is no result of MIDiffusion"),
    ):
        with pytest.raises(InvalidVolume, match=words):
            logic.compare(first, second)
    bent = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    bent.SetAndObserveTransformToParent(slicer.vtkOrientedBSplineTransform())
    reference.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(InvalidVolume, match="not linear: harden them"):
        logic.compare(result, reference)
    assert spy.processes == []
