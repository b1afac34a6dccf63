"""Downloading a model in the panel: the worker fetches it, and whatever happens nothing is left."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import changeCard, saveTiny
from bundleserver import BundleServer, serving
from panel.conftest import PanelDriver


@pytest.fixture(scope="module")
def otherBundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saveTiny(tmp_path_factory.mktemp("served") / "other", id="other", title="Other")


@pytest.fixture
def server(otherBundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BundleServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(otherBundle) as server:
        yield server


def start(driver: PanelDriver, server: BundleServer) -> Any:
    """Clicks Download; returns the job."""
    driver.ui.downloadEdit.text = server.url
    driver.ui.downloadButton.click()
    assert driver.panel.download.job is not None, driver.status
    return driver.panel.download.job


def waitForEnd(driver: PanelDriver) -> None:
    driver.session.wait(lambda: driver.panel.download.job is None, 120, "the end of the download")


def startStalled(driver: PanelDriver, server: BundleServer) -> Any:
    """A download that has begun and goes no further."""
    server.behaviour = "stall"
    job = start(driver, server)
    driver.session.wait(lambda: driver.ui.downloadBar.value > 0 or job.finished, 120)
    assert not job.finished, driver.status
    return job


@pytest.mark.slow
def test_a_stalled_download_shows_what_has_arrived(
    ready: PanelDriver, server: BundleServer, otherBundle: Path, models: Path
) -> None:
    """Weights of many chunks: all but the first arrive within a tenth of a second."""
    weights = otherBundle / "weights.safetensors"
    before, data = weights.read_bytes(), bytes(2 << 20)
    weights.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    changeCard(otherBundle, weights_sha256=digest, weights_bytes=len(data))
    try:
        startStalled(ready, server)
        ready.session.wait(lambda: ready.ui.downloadBar.value >= 49, 5)
        assert ready.ui.downloadBar.value <= 51
        ready.ui.downloadButton.click()
        waitForEnd(ready)
        assertNothingLeft(ready, models)
    finally:
        weights.write_bytes(before)
        digest = hashlib.sha256(before).hexdigest()
        changeCard(otherBundle, weights_sha256=digest, weights_bytes=len(before))


def assertNothingLeft(driver: PanelDriver, models: Path) -> None:
    driver.assertIdle()
    assert {path.name for path in models.iterdir()} == {"tiny", "backbone"}
    assert not driver.ui.downloadBar.visible
    assert driver.ui.downloadButton.text == "Download" and driver.ui.downloadEdit.enabled


def test_a_downloaded_model_can_be_chosen(
    ready: PanelDriver, server: BundleServer, models: Path
) -> None:
    ready.ui.downloadButton.click()
    assert ready.status.startswith("Enter the address of a model")
    server.behaviour = "404"
    start(ready, server)
    assert ready.ui.downloadButton.text == "Cancel"
    assert not ready.ui.translateButton.enabled
    assert "being downloaded" in ready.ui.translateButton.toolTip
    waitForEnd(ready)
    assertNothingLeft(ready, models)
    assert "404" in ready.status
    assert ready.ui.translateButton.enabled
    server.behaviour = ""
    start(ready, server)
    waitForEnd(ready)
    assert ready.status == "Downloaded: 'other' can be chosen as target now."
    assert {path.name for path in models.iterdir()} == {"tiny", "backbone", "other"}
    assert "Other" in [
        ready.ui.modelSelector.itemText(row) for row in range(ready.ui.modelSelector.count)
    ]
    assert ready.parameters.model == "tiny"  # a choice is the user's
    assert ready.ui.downloadEdit.text == ""
    ready.assertIdle()


def test_cancel_and_try_again(ready: PanelDriver, server: BundleServer, models: Path) -> None:
    startStalled(ready, server)
    ready.ui.downloadButton.click()
    assert not ready.ui.downloadButton.enabled
    waitForEnd(ready)
    assertNothingLeft(ready, models)
    assert ready.status == "The download was cancelled. Nothing was kept."
    server.behaviour = ""
    start(ready, server)
    waitForEnd(ready)
    assert ready.status.startswith("Downloaded: 'other'")


def test_a_killed_worker(ready: PanelDriver, server: BundleServer, models: Path) -> None:
    job = startStalled(ready, server)
    os.kill(job._process.pid, signal.SIGKILL)
    waitForEnd(ready)
    assertNothingLeft(ready, models)
    assert "The download's process was ended from outside" in ready.status


def test_reloading_the_module(ready: PanelDriver, server: BundleServer, models: Path) -> None:
    import slicer

    startStalled(ready, server)
    slicer.util.reloadScriptedModule("MIDiffusionTranslate")
    assert ready.workers() == []
    assertNothingLeft(ready, models)


@pytest.mark.slow
def test_closing_the_scene_is_no_matter(
    ready: PanelDriver, server: BundleServer, models: Path
) -> None:
    import slicer

    startStalled(ready, server)
    slicer.mrmlScene.Clear()
    ready.session.process(0.1)
    assert ready.panel.download.job is not None
    ready.ui.downloadButton.click()
    waitForEnd(ready)
    assertNothingLeft(ready, models)


def test_a_folder_is_asked_for_where_there_is_none(
    driver: PanelDriver, server: BundleServer, tmp_path: Path
) -> None:
    driver.panel.chooser.setFolder("")
    driver.panel.chooser.chooseFolder = lambda start: ""
    driver.ui.downloadEdit.text = server.url
    driver.ui.downloadButton.click()
    assert driver.panel.download.job is None and server.requests == []
    assert driver.status == "Not downloaded: no folder was chosen for the model."
    mine = tmp_path / "mine"
    mine.mkdir()
    driver.panel.chooser.chooseFolder = lambda start: str(mine)
    start(driver, server)
    waitForEnd(driver)
    assert [path.name for path in mine.iterdir()] == ["other"]
    assert driver.ui.modelFolderEdit.text == str(mine)
