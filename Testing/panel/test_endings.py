"""Ends of a translation that nobody wishes for, in the panel, with the real worker process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from midiffusion.errors import WorkerDied
from MIDiffusionTranslateLib.process import Launcher, WorkerProcess
from panel.conftest import MODULE, PanelDriver
from scene.launching import Spy


def after(line: str) -> Launcher:
    """What starts the worker after one line of Python."""
    script = f"import sys\n{line}\nfrom midiffusion import worker\nworker.main(sys.argv[1:])"
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
    assert ready.status.endswith("not for diagnosis. The source looks unlike a head.")


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


def test_cancel_while_the_result_is_loaded(ready: PanelDriver) -> None:
    ready.click()
    job = ready.panel.job
    for timer in ready.widget.logic._timers:
        timer.stop()  # so that the state, which lasts for one turn, is not missed

    def loading() -> bool:
        job.poll()
        return bool(job.state == "loading" or job.finished)

    ready.session.wait(loading, 300)
    assert job.state == "loading"
    ready.click()
    assert ready.status == "Cancelled. Nothing was added to the scene."
    assert ready.volumes() == ["T1"]
    ready.widget.logic._timers.clear()
    ready.assertIdle()


def test_a_full_disk(ready: PanelDriver) -> None:
    ready.widget.logic.launcher = Spy(RLIMIT_FSIZE=4000)
    ready.run()
    ready.assertIdle()
    assert "is full" in ready.status and "free some space" in ready.status
    assert ready.volumes() == ["T1"]


def test_a_package_that_the_worker_does_not_find(ready: PanelDriver) -> None:
    ready.widget.logic.launcher = after("sys.modules['safetensors'] = None")
    ready.run()
    ready.assertIdle()
    assert "'safetensors' is not installed: install it" in ready.status


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
