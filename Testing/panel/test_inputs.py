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
    ready.ui.samplerSelector.currentIndex = 2
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
    assert ready.ui.samplerSelector.currentText == "Predictor-corrector (stochastic)"
    assert ready.parameters.sourceVolume.GetName() == "T1"
    assert ready.parameters.model == "tiny"
    assert ready.ui.sourceSelector.currentNode().GetName() == "T1"
    assert ready.ui.deviceSelector.currentIndex == 2
    assert ready.ui.modelFolderEdit.text == str(models)


def test_the_sampler_s_choices_are_those_there_are() -> None:
    from midiffusion.samplers import SAMPLERS
    from MIDiffusionTranslateLib.parameters import Sampler

    assert {choice.value for choice in Sampler} == {"default", *SAMPLERS}


def test_an_unexpected_failure_to_start_is_told(ready: PanelDriver) -> None:
    class Broken:
        def start(self, sourceNode: Any, **arguments: Any) -> Any:
            raise RuntimeError("out of luck")

    ready.panel.logic = Broken()
    ready.click()
    ready.assertIdle()
    assert "could not start (out of luck)" in ready.status
