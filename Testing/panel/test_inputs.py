"""What the panel offers, refuses and remembers before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from panel.conftest import PanelDriver

AddVolume = Callable[..., Any]


def test_without_a_source(driver: PanelDriver) -> None:
    driver.assertDisabled("Select the volume to translate.")
    assert driver.ui.estimateLabel.text == "-"


def test_label_maps_are_not_offered(driver: PanelDriver, addVolume: AddVolume) -> None:
    labels = addVolume("Labels", "vtkMRMLLabelMapVolumeNode")
    assert driver.ui.sourceSelector.nodeCount() == 0
    assert driver.ui.outputSelector.nodeCount() == 0
    driver.widget.initializeParameterNode()
    assert driver.parameters.sourceVolume is None
    driver.parameters.sourceVolume = labels  # by a script
    driver.assertDisabled("'Labels' is not an image")


def test_the_first_image_is_preselected(driver: PanelDriver, addVolume: AddVolume) -> None:
    addVolume("Labels", "vtkMRMLLabelMapVolumeNode")
    image = addVolume("T1")
    driver.representation.exit()
    driver.representation.enter()
    assert driver.parameters.sourceVolume is image
    assert driver.ui.sourceSelector.currentNode() is image
    assert driver.ui.translateButton.enabled


def test_the_image_in_the_views_is_preselected_and_never_a_synthetic_one(
    driver: PanelDriver, addVolume: AddVolume
) -> None:
    driver.representation.exit()
    addVolume("Synthetic").SetAttribute("MIDiffusion.synthetic", "1")
    driver.representation.enter()
    assert driver.parameters.sourceVolume is None
    driver.representation.exit()
    addVolume("First")
    shown = addVolume("Shown")
    view = driver.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    view.SetBackgroundVolumeID(shown.GetID())
    driver.representation.enter()
    assert driver.parameters.sourceVolume is shown


def test_an_empty_scene_offers_the_sample_head(driver: PanelDriver) -> None:
    assert driver.ui.sampleButton.visible
    driver.ui.sampleButton.click()
    assert driver.parameters.sourceVolume.GetName() == "Head T1"
    assert not driver.ui.sampleButton.visible
    assert driver.ui.translateButton.enabled


def test_steps_samples_and_seed_belong_to_sampling(ready: PanelDriver) -> None:
    ready.ui.qualitySelector.currentIndex = 0
    assert not ready.ui.errorMapCheckBox.enabled  # one view has none
    boxes = (ready.ui.stepsSlider, ready.ui.samplesBox, ready.ui.seedBox)
    assert not any(box.enabled for box in boxes)
    ready.ui.qualitySelector.currentIndex = 2
    ready.ui.advancedSection.enabled = True
    assert all(box.enabled for box in boxes)


def test_an_image_loaded_later_enables_translate(driver: PanelDriver, addVolume: AddVolume) -> None:
    import slicer

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    driver.parameters.sourceVolume = empty
    driver.assertDisabled("'Empty' holds no image yet")
    slicer.util.updateVolumeFromArray(empty, slicer.util.arrayFromVolume(addVolume("T1")))
    assert driver.ui.translateButton.enabled


def test_the_output_can_not_be_the_source(ready: PanelDriver) -> None:
    ready.parameters.outputVolume = ready.parameters.sourceVolume
    ready.assertDisabled("can't be the source itself")


def test_device_and_folder_are_the_computer_s_and_inputs_the_scene_s(
    ready: PanelDriver, models: Path
) -> None:
    import slicer

    ready.ui.stepsSlider.value = 33
    ready.ui.seedBox.value = 5
    ready.ui.samplesBox.value = 3
    ready.ui.sourceKindSelector.currentIndex = 2
    ready.ui.qualitySelector.currentIndex = 2
    ready.ui.errorMapCheckBox.checked = False
    ready.ui.deviceSelector.currentIndex = 2
    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    scene.Commit()
    saved = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(0)
    assert str(models) not in saved
    scene.Clear()
    ready.session.process()
    assert ready.ui.stepsSlider.value != 33
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(saved)
    scene.Import()
    scene.SetLoadFromXMLString(0)
    ready.session.process()
    assert ready.ui.stepsSlider.value == 33
    assert ready.ui.seedBox.value == 5
    assert ready.ui.samplesBox.value == 3
    assert ready.ui.sourceKindSelector.currentText == "CT"
    assert ready.ui.qualitySelector.currentText == "Sample: drawn by diffusion"
    assert not ready.ui.errorMapCheckBox.checked
    assert ready.parameters.sourceVolume.GetName() == "T1"
    assert ready.parameters.model == "tiny"
    assert ready.ui.sourceSelector.currentNode().GetName() == "T1"
    assert ready.ui.deviceSelector.currentIndex == 2
    assert ready.ui.modelFolderEdit.text == str(models)


def test_an_unexpected_failure_to_start_is_told(ready: PanelDriver) -> None:
    class Broken:
        def start(self, sourceNode: Any, **arguments: Any) -> Any:
            raise RuntimeError("out of luck")

    ready.panel.logic = Broken()
    ready.click()
    ready.assertIdle()
    assert "could not start (out of luck)" in ready.status
