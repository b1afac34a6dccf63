"""Comparing the result with a reference in the panel, with the real worker process."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from panel.conftest import PanelDriver


@pytest.fixture
def compared(ready: PanelDriver, addVolume: Callable[..., Any]) -> PanelDriver:
    """After a translation, with a reference chosen."""
    ready.run()
    ready.parameters.referenceVolume = addVolume("FLAIR")
    return ready


def waitForEnd(driver: PanelDriver) -> None:
    driver.session.wait(lambda: driver.panel.comparison.job is None, 300)


def test_a_result_is_compared_and_the_figures_kept(compared: PanelDriver) -> None:
    import slicer

    ui = compared.ui
    status = compared.status
    assert ui.comparedSelector.currentNode().GetName() == "Synthetic FLAIR of T1"  # by itself
    ui.compareButton.click()
    assert ui.compareButton.text == "Cancel"
    assert not ui.referenceSelector.enabled
    waitForEnd(compared)
    assert re.match(
        r"SSIM -?\d\.\d{3}, PSNR \d+\.\d dB\nMAE \d\.\d{3}, MI ", ui.comparisonLabel.text
    )
    assert "'FLAIR'" in ui.comparisonStatusLabel.text
    assert compared.status == status  # of the translation, which still holds
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert f"SSIM {float(table.GetCellText(0, 2)):.3f}," in ui.comparisonLabel.text
    assert ui.compareButton.text == "Compare"
    compared.assertIdle()


def test_a_result_is_offered_that_came_while_another_module_was_shown(
    ready: PanelDriver,
) -> None:
    ready.sampling(20, 1)
    ready.click()
    ready.waitForProgress()
    ready.representation.exit()
    ready.waitForEnd()
    ready.representation.enter()
    selector = ready.ui.comparedSelector
    assert selector.currentNode().GetName() == "Synthetic FLAIR of T1"
    names = [selector.nodeFromIndex(n).GetName() for n in range(selector.nodeCount())]
    assert names == ["Synthetic FLAIR of T1"]  # not the error map, which is no result


def test_a_comparison_can_be_cancelled_and_repeated(compared: PanelDriver) -> None:
    ui = compared.ui
    ui.compareButton.click()
    ui.compareButton.click()
    waitForEnd(compared)
    assert ui.comparisonStatusLabel.text == "Cancelled. Nothing was added to the scene."
    assert compared.slicer.util.getNodesByClass("vtkMRMLTableNode") == []
    compared.session.process(0.2)
    compared.assertIdle()
    ui.compareButton.click()
    compared.slicer.mrmlScene.Clear()  # while it runs
    assert compared.workers() == []
    compared.session.process(0.2)
    assert ui.comparisonStatusLabel.text == ""
    assert ui.compareButton.toolTip == "Select the result to judge."
    compared.assertIdle()


def test_what_is_wrong_is_told(ready: PanelDriver, addVolume: Callable[..., Any]) -> None:
    ui, parameters = ready.ui, ready.parameters
    assert not ui.compareButton.enabled
    assert ui.comparisonHintLabel.text == "Select the result to judge."
    addVolume("T2")
    assert ui.comparedSelector.nodeCount() == 0  # neither is a result
    parameters.comparedVolume = parameters.sourceVolume  # by a script
    assert ui.compareButton.toolTip == "Select a real volume as reference."
    parameters.referenceVolume = addVolume("FLAIR")
    ui.compareButton.click()
    assert "'T1' is no result of MIDiffusion" in ui.comparisonStatusLabel.text
    ready.assertIdle()
