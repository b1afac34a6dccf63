"""Whatever ends a translation, and in whichever of its states: nothing runs on, nothing is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from bundles import TINY
from panel.conftest import PanelDriver

AddVolume = Callable[..., Any]


def nodes(driver: PanelDriver) -> list[str]:
    scene = driver.slicer.mrmlScene
    return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))


def bring(driver: PanelDriver, state: str) -> Any:
    """The job of a translation that stays in this state, since nobody polls it any more."""
    driver.click()
    job = driver.panel.job
    driver.widget.logic._timer.stop()
    if state == "cancelling":
        driver.click()
    elif state == "loading":
        driver.session.wait(lambda: job.poll() == "loading" or job.finished, 300)
    assert job.state == state
    return job


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "ending"),
    [
        (state, ending)
        for state in ("preparing", "running", "cancelling", "loading")
        for ending in ("cancel", "close", "reload", "leave")
        if (state, ending) != ("cancelling", "cancel")  # once is enough, see below
    ],
)
def test_an_ending_in_a_state(
    ready: PanelDriver, state: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if state == "preparing":
        monkeypatch.setattr("MIDiffusionTranslateLib.worker.folder._PART", 1)  # a slice at a time
    before, job = nodes(ready), bring(ready, state)
    assert ready.ui.translateButton.enabled == (state != "cancelling")
    if ending == "cancel":
        ready.click()
        ready.session.wait(lambda: job.poll() == "cancelled", 60)
        assert ready.status == "Cancelled. Nothing was added to the scene."
        assert nodes(ready) == before
    elif ending == "close":
        ready.slicer.mrmlScene.Clear()
        assert ready.status == "Cancelled, because the scene was closed."
        assert ready.volumes() == []
    elif ending == "reload":
        ready.slicer.util.reloadScriptedModule("MIDiffusionTranslate")
        assert nodes(ready) == before
    else:
        ready.module.unload()
        assert nodes(ready) == before
    assert job.state == "cancelled" and job.node is None
    assert list(ready.handover.iterdir()) == []
    ready.session.wait(lambda: not ready.workers(), 30)
    if ending != "leave":
        ready.session.process(0.1)
        ready.assertIdle()


def test_a_batch_goes_on_without_the_worker_it_lost(
    ready: PanelDriver, addVolume: AddVolume
) -> None:
    addVolume("T2")
    ready.ui.batchSection.collapsed = False
    before = ready.volumes()
    ready.ui.batchButton.click()
    first = ready.panel.batch.job.items[0]
    os.kill(ready.panel.batch.job._job._process.pid, signal.SIGKILL)
    ready.session.wait(lambda: first.state != "running", 60)
    assert first.state == "failed" and "ended from outside" in first.message
    ready.ui.batchButton.click()
    ready.session.wait(lambda: ready.panel.batch.job is None, 60)
    assert ready.ui.batchStatusLabel.text.startswith(
        "0 of 2 translated, 1 failed, 1 not translated, because it was cancelled. T1: "
    )
    assert ready.volumes() == before
    ready.assertIdle()
    ready.ui.batchButton.click()
    ready.slicer.util.reloadScriptedModule("MIDiffusionTranslate")
    assert ready.workers() == [] and ready.volumes() == before
    ready.session.process(0.1)
    ready.assertIdle()


def test_a_comparison_without_the_worker_it_lost(ready: PanelDriver, addVolume: AddVolume) -> None:
    result = addVolume("Result")
    result.SetAttribute("MIDiffusion.intensity", json.dumps(TINY["intensity"]))
    ready.parameters.comparedVolume = result
    ready.parameters.referenceVolume = ready.parameters.sourceVolume
    ready.ui.compareButton.click()
    job = ready.panel.comparison.job
    ready.session.wait(lambda: job.state == "running", 60)
    os.kill(job._process.pid, signal.SIGKILL)
    ready.session.wait(lambda: ready.panel.comparison.job is None, 60)
    said = ready.ui.comparisonStatusLabel.text
    assert "The comparison's process was ended from outside" in said and "try again" in said
    assert ready.slicer.util.getNodesByClass("vtkMRMLTableNode") == []
    ready.assertIdle()
