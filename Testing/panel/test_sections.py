"""What the sections have in common: folding, the scene's coming and going, folders as typed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import vtk
from panel.conftest import PanelDriver

AddVolume = Callable[..., Any]
NOBODY = "~nobody-of-that-name/volumes"


def listed(driver: PanelDriver) -> list[str]:
    view = driver.ui.batchList
    return [view.item(row).text() for row in range(view.count)]


def test_what_is_shown_while_folded_appears_when_unfolded(session: Any) -> None:
    """As ctkCollapsibleButton does it, in the host."""
    import qt
    from host.widgets import ctkCollapsibleButton

    top = qt.QWidget()
    section = ctkCollapsibleButton(top)
    first, second = qt.QLabel(section), qt.QLabel(section)
    second.setVisible(False)
    top.show()
    section.collapsed = True
    first.setVisible(False)
    second.setVisible(True)
    assert not first.visible and not second.visible
    section.collapsed = False
    assert not first.visible and second.visible
    section.collapsed = True
    section.collapsed = False
    assert not first.visible and second.visible


def test_the_list_follows_the_scene(ready: PanelDriver, addVolume: AddVolume) -> None:
    ready.ui.batchSection.collapsed = False
    assert listed(ready) == ["T1"]
    added = addVolume("T2")
    assert listed(ready) == ["T1", "T2"]
    ready.slicer.mrmlScene.RemoveNode(added)
    assert listed(ready) == ["T1"]


def test_the_next_scene_s_volumes_are_ticked(ready: PanelDriver, addVolume: AddVolume) -> None:
    import qt

    ready.ui.batchSection.collapsed = False
    ready.ui.batchList.item(0).setCheckState(qt.Qt.Unchecked)
    ready.slicer.mrmlScene.Clear()
    addVolume("Another")  # of the same ID as the first
    assert [node.GetName() for node in ready.panel.batch.chosen.values()] == ["Another"]


def test_no_image_outlives_its_scene(ready: PanelDriver) -> None:
    ready.ui.batchSection.collapsed = False
    ready.representation.exit()
    image = vtk.vtkWeakReference()
    image.Set(ready.slicer.util.getNode("T1").GetImageData())
    ready.slicer.mrmlScene.Clear()
    gc.collect()
    assert image.Get() is None


def imageOf(node: Any) -> Any:
    """A weak reference to the node's image."""
    image = vtk.vtkWeakReference()
    image.Set(node.GetImageData())
    return image


def test_no_result_outlives_its_scene(ready: PanelDriver) -> None:
    ready.run()
    images = [imageOf(node) for node in ready.volumeNodes()]
    assert len(images) == 3
    ready.slicer.mrmlScene.Clear()
    ready.session.process(0.1)
    gc.collect()
    assert [image.Get() for image in images] == [None] * 3


def test_no_removed_result_stays_in_memory(ready: PanelDriver) -> None:
    ready.run()
    result = ready.slicer.util.getNode("Synthetic FLAIR of T1")
    image = imageOf(result)
    ready.slicer.mrmlScene.RemoveNode(result.GetDisplayNode())  # which refers to the image
    ready.slicer.mrmlScene.RemoveNode(result)
    del result
    gc.collect()
    assert image.Get() is None


def test_no_result_of_a_batch_outlives_its_scene(ready: PanelDriver, addVolume: AddVolume) -> None:
    addVolume("T2")
    ready.ui.batchSection.collapsed = False
    ready.ui.batchButton.click()
    ready.session.wait(lambda: ready.panel.batch.job is None, 300)
    images = [imageOf(node) for node in ready.volumeNodes()]
    assert len(images) == 6
    ready.slicer.mrmlScene.Clear()
    gc.collect()
    assert [image.Get() for image in images] == [None] * 6


def test_no_source_of_a_cancelled_job_outlives_its_scene(
    ready: PanelDriver, addVolume: AddVolume
) -> None:
    ready.parameters.outputVolume = addVolume("Mine")
    ready.runForever()
    ready.click()
    ready.waitForProgress()
    ready.click()
    ready.waitForEnd(60)
    images = [imageOf(node) for node in ready.volumeNodes()]
    ready.slicer.mrmlScene.Clear()
    gc.collect()
    assert [image.Get() for image in images] == [None] * 2


@pytest.fixture
def modulesRestored() -> Iterator[None]:
    """The library's modules are afterwards those that the other tests have imported."""
    own = ("midiffusion", "MIDiffusionTranslateLib")
    before = {name: m for name, m in sys.modules.items() if name.partition(".")[0] in own}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    sys.modules.update(before)


def test_a_reload_takes_library_and_panel_anew(ready: PanelDriver, modulesRestored: None) -> None:
    import MIDiffusionTranslateLib.panel.panel as before

    ready.widget.onReload()
    after = sys.modules["MIDiffusionTranslateLib.panel.panel"]
    assert after is not before
    assert type(ready.panel) is after.TranslatePanel
    ready.run()
    ready.assertIdle()


def test_folders_that_can_t_be(driver: PanelDriver, models: Path) -> None:
    ui, training = driver.ui, driver.widget.training
    ui.batchSection.collapsed = training.ui.trainSection.collapsed = False
    ui.batchFolderEdit.text = ui.batchOutputEdit.text = NOBODY
    ui.batchFromSelector.currentIndex = 1
    assert ui.batchHintLabel.text == "Choose a folder with volumes."
    training.ui.trainDataEdit.text = NOBODY
    training.refresh()
    assert training.ui.trainHintLabel.text == f"There is no folder '{NOBODY}'."
    driver.panel.chooser.setFolder(NOBODY)
    assert driver.status == f"There is no folder '{NOBODY}'."
    assert ui.modelFolderEdit.text == driver.panel.settings.modelFolder == str(models)


def test_a_relative_folder_is_the_application_s(
    driver: PanelDriver, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has a working folder of its own."""
    monkeypatch.chdir(models.parent)
    driver.panel.chooser.setFolder(models.name)
    assert driver.panel.settings.modelFolder == driver.ui.modelFolderEdit.text == str(models)
    assert "tiny" in [entry.id for entry in driver.panel.chooser.entries]


def test_a_folded_section_looks_at_no_folder(
    driver: PanelDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network folder of the last training may make the panel wait."""
    from MIDiffusionTranslateLib.panel import train_section

    training, looked = driver.widget.training, []
    training.ui.trainDataEdit.text = str(tmp_path)
    monkeypatch.setattr(train_section, "existingFolder", looked.append)
    driver.representation.enter()
    assert looked == []
    training.ui.trainSection.collapsed = False
    assert looked == [str(tmp_path)]


def test_a_damaged_result_is_no_silence(ready: PanelDriver, addVolume: AddVolume) -> None:
    damaged = addVolume("Result")
    damaged.SetAttribute("MIDiffusion.intensity", "{")
    ready.parameters.comparedVolume = damaged
    ready.parameters.referenceVolume = ready.parameters.sourceVolume
    ready.ui.compareButton.click()
    assert "The comparison could not start" in ready.ui.comparisonStatusLabel.text
    ready.assertIdle()
