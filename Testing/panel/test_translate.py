"""Translating in the panel: from a click to the result, and every way in which it can end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from panel.conftest import ROOT, PanelDriver

RESULTS = ["Synthetic FLAIR of T1", "Error map of synthetic FLAIR of T1"]
AddVolume = Callable[..., Any]


def test_a_click_translates(ready: PanelDriver) -> None:
    import qt
    import slicer

    ticks = []
    ticker = qt.QTimer()
    ticker.connect("timeout()", lambda: ticks.append(1))
    ticker.start(10)
    seen = set()

    def previewed() -> bool:
        seen.add(ready.ui.translateButton.text)
        seen.add("preview" if ready.ui.previewLabel.visible else "")
        return ready.panel.job is None

    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    ready.sampling(13, 2)
    ready.ui.seedBox.value = 7
    # 6 slices of a quarter of 128 x 128 pixels, 2 s each with four views, and 2 s of start
    seconds = 5 * round((2 + 6 * 2 / 4 * (4 + 13 * 2 + 5) / (4 + 5)) / 5)
    assert ready.ui.estimateLabel.text == f"about {seconds:.0f} s on CPU"
    ready.click()
    job = ready.panel.job
    assert ready.ui.runArea.visible
    assert not ready.ui.inputsSection.enabled
    ready.session.wait(previewed, 300)
    ticker.stop()
    assert {"Cancel", "preview"} <= seen
    assert len(ticks) > 20  # the event loop went on
    ready.assertIdle()
    assert ready.status.startswith("Done in ")
    assert "'Synthetic FLAIR of T1'" in ready.status
    assert "not for diagnosis" in ready.status
    assert ready.volumes() == ["T1", *RESULTS, "Deviation of synthetic FLAIR of T1"]
    node = ready.volumeNodes()[1]
    found = {key: node.GetAttribute(f"MIDiffusion.{key}") for key in ("steps", "model", "seed")}
    assert found == {"steps": "13", "model": "tiny", "seed": "7"}
    assert job.node is node
    assert view.GetBackgroundVolumeID() == ready.parameters.sourceVolume.GetID()
    assert view.GetForegroundVolumeID() == node.GetID()
    assert "from earlier runs" in ready.ui.estimateLabel.text


def test_a_second_run_gives_a_second_volume(ready: PanelDriver) -> None:
    import numpy as np
    import slicer

    ready.run()
    ready.run()
    ready.assertIdle()
    values = [slicer.util.arrayFromVolume(node) for node in ready.volumeNodes()[1::2]]
    assert np.abs(values[0] - values[1]).max() <= 1e-4 * np.ptp(values[0])


def test_samples_also_give_their_standard_deviation(ready: PanelDriver) -> None:
    ready.sampling(4, 2)
    ready.run()
    ready.assertIdle()
    assert "Deviation: 'Deviation of synthetic FLAIR of T1'" in ready.status
    assert len(ready.volumes()) == 4


def test_a_chosen_output_receives_the_result(ready: PanelDriver, addVolume: AddVolume) -> None:
    import slicer

    ready.parameters.errorMap = False
    output = addVolume("Mine", slices=2)
    output.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    ready.parameters.outputVolume = output
    before = slicer.mrmlScene.GetNumberOfNodes()
    ready.run()
    ready.assertIdle()
    assert slicer.mrmlScene.GetNumberOfNodes() <= before + 1  # at most a display node
    assert ready.volumes() == ["T1", "Mine"]
    assert slicer.util.arrayFromVolume(output).shape == (6, 40, 36)
    assert output.GetAttribute("MIDiffusion.synthetic") == "1"
    assert output.GetAttribute("DICOM.instanceUIDs") is None
    assert "'Mine'" in ready.status


def test_a_removed_output_is_replaced_by_a_new_volume(
    ready: PanelDriver, addVolume: AddVolume
) -> None:
    import slicer

    output = addVolume("Mine")
    ready.parameters.outputVolume = output
    ready.click()
    slicer.mrmlScene.RemoveNode(output)
    ready.waitForEnd()
    assert ready.volumes() == ["T1", *RESULTS]


def test_cancel(ready: PanelDriver) -> None:
    ready.runForever()
    ready.click()
    ready.waitForProgress()
    ready.click()
    assert ready.ui.translateButton.text == "Cancelling..."
    assert not ready.ui.translateButton.enabled
    ready.waitForEnd(60)
    ready.assertIdle()
    assert ready.status == "Cancelled. Nothing was added to the scene."
    assert ready.volumes() == ["T1"]
    ready.standard()
    ready.run()
    assert ready.volumes() == ["T1", *RESULTS]


def test_cancel_while_the_worker_starts(ready: PanelDriver) -> None:
    ready.click()
    ready.click()
    ready.waitForEnd(60)
    ready.assertIdle()
    assert ready.status == "Cancelled. Nothing was added to the scene."
    assert ready.volumes() == ["T1"]


def test_closing_the_scene_ends_the_translation(ready: PanelDriver) -> None:
    import slicer

    ready.runForever()
    ready.click()
    ready.waitForProgress()
    slicer.mrmlScene.Clear()
    assert ready.workers() == []  # at once, not when the event loop comes to it
    ready.session.process(0.2)
    ready.assertIdle()
    assert ready.status == "Cancelled, because the scene was closed."
    assert ready.volumes() == []
    assert ready.ui.translateButton.toolTip == "Select the volume to translate."


@pytest.mark.slow
def test_reloading_the_module_ends_the_translation(ready: PanelDriver) -> None:
    import slicer

    ready.runForever()
    ready.click()
    ready.waitForProgress()
    old = ready.widget
    slicer.util.reloadScriptedModule("MIDiffusionTranslate")
    assert ready.workers() == []
    assert ready.widget is not old
    assert old.Observations == []
    ready.session.process(0.2)
    ready.assertIdle()
    assert ready.volumes() == ["T1"]
    assert ready.parameters.sourceVolume.GetName() == "T1"
    ready.standard()
    ready.run()
    assert ready.volumes() == ["T1", *RESULTS]


@pytest.mark.slow
def test_leaving_the_application_ends_the_translation(ready: PanelDriver) -> None:
    ready.runForever()
    ready.click()
    ready.waitForProgress()
    ready.module.unload()
    assert ready.workers() == []
    assert list(ready.handover.iterdir()) == []


@pytest.mark.slow
def test_another_module_may_be_shown_meanwhile(ready: PanelDriver) -> None:
    ready.sampling(40, 1)
    ready.click()
    ready.waitForProgress()
    ready.representation.exit()
    ready.waitForEnd()
    ready.representation.enter()
    ready.assertIdle()
    assert ready.volumes() == ["T1", *RESULTS]


def test_a_killed_worker(ready: PanelDriver) -> None:
    ready.runForever()
    ready.click()
    job = ready.waitForProgress()
    os.kill(job._process.pid, signal.SIGKILL)
    ready.waitForEnd(60)
    ready.assertIdle()
    assert "ended from outside" in ready.status
    assert ready.volumes() == ["T1"]


def test_corrupted_weights(ready: PanelDriver, models: Path) -> None:
    weights = models / "tiny" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 255
    weights.write_bytes(data)
    ready.run()
    ready.assertIdle()
    assert "SHA-256 differs" in ready.status
    assert ready.volumes() == ["T1"]


def test_a_constant_image(ready: PanelDriver) -> None:
    import slicer

    source = ready.parameters.sourceVolume
    slicer.util.updateVolumeFromArray(source, 0 * slicer.util.arrayFromVolume(source) + 5)
    ready.click()
    ready.waitForEnd()
    ready.assertIdle()
    assert "constant" in ready.status or "same value" in ready.status


@pytest.mark.slow
def test_the_preview_can_be_switched_off(ready: PanelDriver) -> None:
    ready.runForever()
    ready.click()
    ready.session.wait(lambda: ready.ui.previewLabel.visible, 300)
    ready.ui.previewCheckBox.checked = False
    assert not ready.ui.previewLabel.visible
    at = ready.ui.progressBar.value
    ready.session.wait(lambda: ready.ui.progressBar.value > at, 300)
    assert not ready.ui.previewLabel.visible
    ready.click()
    ready.waitForEnd(60)


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_the_module_tests_what_it_can_without_a_package(
    session: Any,
    handover: Path,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import slicer

    monkeypatch.setitem(sys.modules, package, None)
    module = session.load(ROOT / "MIDiffusionTranslate" / "MIDiffusionTranslate.py")
    slicer.selfTests["MIDiffusionTranslate"]()
    assert f"SKIPPED: nothing was translated, for want of {package}" in caplog.messages
    assert module.widgetRepresentation().self().panel is not None
    # It can fail: a panel that doesn't say what is missing, a logic that refuses nothing.
    with monkeypatch.context() as broken:
        broken.setattr("MIDiffusionTranslateLib.panel.panel.TranslatePanel.obstacle", lambda _: "")
        module.widgetRepresentation().self().panel.refresh()
        with pytest.raises(AssertionError):
            slicer.selfTests["MIDiffusionTranslate"]()
    with monkeypatch.context() as broken:
        broken.setattr("MIDiffusionTranslateLib.logic.TranslateLogic.start", lambda *_, **__: None)
        with pytest.raises(AssertionError):
            slicer.selfTests["MIDiffusionTranslate"]()


def test_the_module_tests_itself(session: Any, handover: Path) -> None:
    """MIDiffusionTranslateTest, as Slicer's own self-test would run it, with the shipped model."""
    import slicer

    session.load(ROOT / "MIDiffusionTranslate" / "MIDiffusionTranslate.py")
    slicer.selfTests["MIDiffusionTranslate"]()
    assert session.dialogs == []
    assert list(handover.iterdir()) == []
