"""Translating several volumes in the panel, each in a real worker process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel.conftest import PanelDriver

AddVolume = Callable[..., Any]


@pytest.fixture
def three(ready: PanelDriver, addVolume: AddVolume) -> PanelDriver:
    """The panel with three volumes in the scene, the second of which shows nothing."""
    import slicer

    slicer.util.updateVolumeFromArray(addVolume("Empty"), np.ones((3, 4, 5), np.int16))
    addVolume("T2")
    ready.parameters.errorMap = False
    ready.ui.batchSection.collapsed = False
    return ready


def listed(driver: PanelDriver) -> list[str]:
    view = driver.ui.batchList
    return [view.item(row).text() for row in range(view.count)]


def tick(driver: PanelDriver, row: int, ticked: bool) -> None:
    import qt

    driver.ui.batchList.item(row).setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)


def waitForEnd(driver: PanelDriver) -> None:
    driver.session.wait(lambda: driver.panel.batch.job is None, 300, "the end of the batch")


def test_a_batch_with_one_bad_item(three: PanelDriver) -> None:
    ui = three.ui
    assert listed(three) == ["T1", "Empty", "T2"]
    ui.batchButton.click()
    assert ui.batchArea.visible and ui.batchButton.text == "Cancel"
    assert not ui.translateButton.enabled
    for section in (ui.inputsSection, ui.outputsSection, ui.advancedSection):
        assert not section.enabled  # what is changed now would have no effect
    assert "Several volumes are being translated" in ui.translateButton.toolTip
    waitForEnd(three)
    assert listed(three) == ["done: T1", "failed: Empty", "done: T2"]
    status = ui.batchStatusLabel.text
    assert status.startswith("2 of 3 translated, 1 failed. Empty: ")
    assert "constant" in status and "table 'MIDiffusion batch'" in status
    assert three.volumes() == [
        "T1",
        "Empty",
        "T2",
        "Synthetic FLAIR of T1",
        "Synthetic FLAIR of T2",
    ]
    assert ui.translateButton.enabled
    three.assertIdle()


def test_only_what_is_ticked_and_cancel(three: PanelDriver) -> None:
    import slicer

    tick(three, 1, False)
    three.panel.refresh()
    assert [item.GetName() for item in three.panel.batch.chosen.values()] == ["T1", "T2"]
    three.runForever()
    three.ui.batchButton.click()
    three.session.wait(lambda: "Step" in three.ui.batchProgressLabel.text, 300)
    assert listed(three) == ["running: T1", "Empty", "T2"]
    three.ui.batchButton.click()
    waitForEnd(three)
    assert three.ui.batchStatusLabel.text.startswith(
        "0 of 2 translated, 2 not translated, because it was cancelled."
    )
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 1
    assert three.volumes() == ["T1", "Empty", "T2"]
    three.assertIdle()
    tick(three, 0, False)
    tick(three, 2, False)
    assert three.ui.batchHintLabel.text == "Tick the volumes to translate."
    assert not three.ui.batchButton.enabled


def test_the_list_follows_new_names(three: PanelDriver) -> None:
    three.slicer.util.getNode("T2").SetName("Renamed")
    assert listed(three) == ["T1", "Empty", "Renamed"]


def test_a_batch_uses_one_worker(three: PanelDriver) -> None:
    tick(three, 1, False)
    three.ui.batchButton.click()
    pids = set()

    def ended() -> bool:
        job = three.panel.batch.job
        if job is not None and job._job is not None and job._job._process is not None:
            pids.add(job._job._process.pid)
        return job is None

    three.session.wait(ended, 300)
    assert listed(three) == ["done: T1", "Empty", "done: T2"]
    assert len(pids) == 1
    three.assertIdle()


def test_closing_the_scene_ends_a_batch(three: PanelDriver) -> None:
    import slicer

    three.runForever()
    three.ui.batchButton.click()
    slicer.mrmlScene.Clear()
    assert three.workers() == []
    three.session.process(0.2)
    three.assertIdle()
    assert three.ui.batchList.count == 0
    assert slicer.util.getNodesByClass("vtkMRMLTableNode") == []


def test_folders_are_asked_for(ready: PanelDriver, tmp_path: Path) -> None:
    ui = ready.ui
    ui.batchSection.collapsed = False
    ui.batchFromSelector.currentIndex = 1
    assert ui.batchHintLabel.text == "Choose a folder with volumes."
    for name in ("b.nrrd", "a.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    ready.panel.batch._chooseFolder = lambda start: str(tmp_path)
    ui.batchFolderButton.click()
    assert listed(ready) == ["a.nii.gz", "b.nrrd"]
    assert ui.batchHintLabel.text == "Choose an existing folder for the results."
    ui.batchOutputButton.click()
    assert ui.batchButton.enabled, ui.batchButton.toolTip


def test_a_running_translation_comes_first(three: PanelDriver) -> None:
    three.runForever()
    three.click()
    assert not three.ui.batchButton.enabled
    assert "A translation is running" in three.ui.batchHintLabel.text
    three.click()
    three.waitForEnd()
    assert three.ui.batchButton.enabled
