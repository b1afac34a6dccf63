"""Ends of a translation that nobody wishes for, in the panel, with the real worker process."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from midiffusion.errors import WorkerDied
from MIDiffusionTranslateLib.worker.worker_process import Launcher, WorkerProcess
from panel.conftest import MODULE, PanelDriver
from scene.launching import Spy


def after(line: str) -> Launcher:
    """What starts the worker after one line of Python."""
    service = "from midiffusion.worker import service"
    script = f"import sys\n{line}\n{service}\nservice.main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(MODULE.parent)}

    def launch(folder: Path) -> WorkerProcess:
        return WorkerProcess([sys.executable, "-c", script, str(folder)], environment, folder)

    return launch


def test_a_warning_of_the_worker_is_told_with_the_result(ready: PanelDriver) -> None:
    event = '{"event": "warning", "message": "The source looks unlike a head."}'
    ready.widget.logic.launcher = after(f"print({event!r}, flush=True)")
    ready.run()
    ready.assertIdle()
    assert ready.status.startswith("Done in ")
    assert ready.status.endswith("not for diagnosis.")
    assert ready.ui.warningLabel.visible
    assert "The source looks unlike a head." in ready.ui.warningLabel.text


def test_a_hanging_worker_is_ended(ready: PanelDriver) -> None:
    ready.runForever()
    ready.click()
    job = ready.waitForProgress()
    os.kill(job._process.pid, signal.SIGSTOP)
    job.silence_s = 0.5
    ready.waitForEnd(60)
    ready.assertIdle()
    assert "gave no sign of life" in ready.status and "try again" in ready.status
    assert ready.volumes() == ["T1"]


def test_a_full_disk(ready: PanelDriver) -> None:
    ready.widget.logic.launcher = Spy(RLIMIT_FSIZE=4000)
    ready.run()
    ready.assertIdle()
    assert "is full" in ready.status and "free some space" in ready.status
    assert ready.volumes() == ["T1"]


def test_a_full_disk_where_the_source_goes(ready: PanelDriver) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        ready.click()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ready.assertIdle()
    assert "is full" in ready.status and "free some space" in ready.status
    assert ready.volumes() == ["T1"]


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_package_that_the_worker_does_not_find(ready: PanelDriver, package: str) -> None:
    ready.widget.logic.launcher = after(f"sys.modules[{package!r}] = None")
    ready.run()
    ready.assertIdle()
    assert f"'{package}' is not installed: install it" in ready.status
    assert ready.volumes() == ["T1"]


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("", "There is no model 'tiny'; the models found are"),
        ("weights.safetensors", "Get the model again."),
    ],
)
def test_a_model_that_has_gone_since_it_was_listed(
    ready: PanelDriver, models: Path, gone: str, words: str
) -> None:
    (models / "tiny" / gone).rename(models.parent / "elsewhere")
    ready.run()
    ready.assertIdle()
    assert words in ready.status
    assert ready.volumes() == ["T1"]


def test_the_messages_of_a_failed_worker_can_be_read_and_copied(
    ready: PanelDriver, caplog: pytest.LogCaptureFixture
) -> None:
    import qt

    ui, logic = ready.ui, ready.widget.logic
    assert not ui.detailsSection.visible
    good = logic.launcher
    logic.launcher = after("sys.stderr.write('loud trouble\\n'); raise SystemExit(3)")
    ready.run()
    ready.assertIdle()
    assert "exit status 3" in ready.status
    assert ui.detailsSection.visible and ui.detailsSection.collapsed
    assert "loud trouble" in ui.detailsText.plainText
    assert any("loud trouble" in message for message in caplog.messages)  # Slicer's log
    ui.copyDetailsButton.click()
    assert "loud trouble" in qt.QApplication.clipboard().text()
    logic.launcher = good
    ready.run()
    assert not ui.detailsSection.visible


def test_the_memory_of_the_device_is_shown_where_it_is_chosen(ready: PanelDriver) -> None:
    ui, label = ready.ui, ready.ui.deviceMemoryLabel
    assert not label.visible
    ui.advancedSection.collapsed = False
    assert label.text.endswith(" GB free")  # of the processor: known at once
    ui.deviceSelector.currentIndex = 0  # automatic: the worker is asked
    assert label.text == "Looking for the device..."
    ready.session.wait(lambda: ready.panel.deviceMemory.job is None, 300)
    assert label.text.startswith("cpu (") and label.text.endswith(" GB free")
    ui.deviceSelector.currentIndex = 0
    ui.deviceSelector.currentIndex = 2
    ui.advancedSection.collapsed = True  # nobody waits for the answer any more
    ready.session.wait(lambda: ready.workers() == [], 30)
    assert not label.visible
    ready.session.process(0.2)
    ready.assertIdle()


def test_a_worker_that_can_not_start(ready: PanelDriver) -> None:
    def refuse(folder: Path) -> Any:
        raise WorkerDied("No process today.")

    ready.widget.logic.launcher = refuse
    ready.click()
    ready.assertIdle()
    assert ready.status == "No process today."
    with pytest.raises(WorkerDied):
        ready.widget.logic.translate(
            ready.parameters.sourceVolume, "tiny", modelFolder=ready.panel.settings.modelFolder
        )
