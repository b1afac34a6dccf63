"""What can go wrong around a real worker, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.errors import (
    DiskFull,
    OutOfMemory,
    UnwritableTarget,
    WorkerDied,
)
from MIDiffusionTranslateLib.logic import TranslateLogic
from scene.launching import Spy
from scene.phantoms import head
from scene.test_worker import LIBRARY, isAlive

resource = pytest.importorskip("resource", reason="limits are set the POSIX way")

ENDLESS = 1_000_000  # steps


def test_cancel(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any, untouched: Any
) -> None:
    ended = []
    source = addVolume()
    untouched()
    job = logic.start(source, tinyModel, steps=ENDLESS, onDone=ended.append)
    waitFor(job, lambda: job.progress is not None)
    job.cancel()
    assert job.state == "cancelling"
    asked = time.monotonic()
    waitFor(job)
    assert time.monotonic() - asked < 10  # 3 s are promised; this machine may be busy
    assert job.state == "cancelled"
    assert job.error.code == "cancelled"
    assert ended == [job]
    assert not isAlive(spy.pid)
    untouched(job)
    assert logic.jobs == []


def test_cancel_before_the_first_event(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    job = logic.start(source, tinyModel, steps=ENDLESS)
    job.cancel()
    waitFor(job)
    assert job.state == "cancelled"
    assert not isAlive(spy.pid)
    untouched(job)


def test_a_stopped_worker_is_killed_on_cancel(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    job = logic.start(source, tinyModel, steps=ENDLESS)
    os.kill(spy.pid, signal.SIGSTOP)
    job.cancel()
    waitFor(job)
    assert job.state == "cancelled"
    assert not isAlive(spy.pid)
    untouched(job)


def test_closing_the_scene_cancels(
    scene: Any, addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any, handover: Path
) -> None:
    job = logic.start(addVolume(), tinyModel, steps=ENDLESS)
    waitFor(job, lambda: job.progress is not None)
    scene.Clear(0)
    assert job.state == "cancelling"
    waitFor(job)
    assert job.state == "cancelled"
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert list(handover.iterdir()) == []


def test_abandoning_ends_at_once(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    job = logic.start(source, tinyModel, steps=ENDLESS)
    logic.abandonAll()
    assert job.state == "cancelled"
    assert not isAlive(spy.pid)
    untouched(job)


def test_a_killed_worker_and_a_second_run(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    job = logic.start(source, tinyModel, steps=ENDLESS)
    waitFor(job, lambda: job.progress is not None)
    os.kill(spy.pid, signal.SIGKILL)
    waitFor(job)
    assert job.state == "failed"
    assert isinstance(job.error, WorkerDied)
    assert "SIGKILL" in str(job.error)
    assert "memory" in str(job.error)
    untouched(job)
    assert logic.translate(source, tinyModel, steps=1) is not None


def test_a_hanging_worker_is_noticed(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    job = logic.start(source, tinyModel, steps=ENDLESS)
    waitFor(job, lambda: job.progress is not None)
    os.kill(spy.pid, signal.SIGSTOP)
    job.silence_s = 0.5
    waitFor(job)
    assert job.state == "failed"
    assert isinstance(job.error, WorkerDied)
    assert "sign of life" in str(job.error)
    assert not isAlive(spy.pid)
    untouched(job)


def test_no_memory_for_torch(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    logic.launcher = Spy(RLIMIT_AS=400 << 20)
    with pytest.raises(OutOfMemory, match="memory is too small"):
        logic.translate(source, tinyModel, steps=2)
    untouched()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_no_memory_for_the_volume(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any
) -> None:
    script = "import midiffusion.model; print(open('/proc/self/status').read())"
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    status = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    idle = int(status.split("VmPeak:")[1].split()[0]) << 10
    source = addVolume(np.tile(head((16, 100, 100)), (1, 16, 16)))
    values = source.GetImageData().GetNumberOfPoints()
    untouched()
    logic.launcher = Spy(RLIMIT_AS=idle + 4 * values)
    with pytest.raises(OutOfMemory, match="memory"):
        logic.translate(source, tinyModel, steps=2)
    untouched()


def test_a_full_disk_where_the_result_goes(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    logic.launcher = Spy(RLIMIT_FSIZE=4000)
    with pytest.raises(DiskFull, match="disk .* is full"):
        logic.translate(source, tinyModel, steps=1)
    untouched()


def test_a_full_disk_where_the_source_goes(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        job = logic.start(source, tinyModel, steps=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert job.state == "failed"
    assert isinstance(job.error, DiskFull)
    assert spy.processes == []
    untouched(job)


def test_a_temporary_folder_that_can_t_be(
    addVolume: Any, tmp_path: Path, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume()
    untouched()
    (tmp_path / "file").touch()
    logic = TranslateLogic(temporaryFolder=tmp_path / "file" / "folder")
    with pytest.raises(UnwritableTarget, match="temporary folder"):
        logic.translate(source, tinyModel)
    untouched()


def test_an_interpreter_that_is_not_there(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any, monkeypatch: Any
) -> None:
    source = addVolume()
    untouched()
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(WorkerDied, match="can't be started"):
        logic.translate(source, tinyModel)
    untouched()


def test_a_result_that_the_scene_can_t_take(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any, monkeypatch: Any
) -> None:
    source = addVolume(head())
    untouched()

    def full(*_: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("MIDiffusionTranslateLib.scene._putBeside", full)
    with pytest.raises(Exception, match="could not be added to the scene .no room"):
        logic.translate(source, tinyModel, steps=1)
    untouched()
