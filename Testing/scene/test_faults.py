"""What can go wrong around a real worker, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.errors import DiskFull, OutOfMemory, UnwritableTarget, WorkerDied
from MIDiffusionTranslateLib.logic import TranslateLogic
from MIDiffusionTranslateLib.worker.folder import JobFolder
from MIDiffusionTranslateLib.worker.worker_process import pythonInterpreter
from scene.launching import Spy, launchScript
from scene.phantoms import head
from scene.test_worker import isAlive

resource = pytest.importorskip("resource", reason="limits are set the POSIX way")

ENDLESS = 1_000_000  # steps
FIGURES = r"memory is too small .* volume of \d+\.\d MB \(\d+ MB used, \d+ MB free\)"


def raising(fault: BaseException) -> Any:
    """A function that takes anything and raises `fault`."""

    def fail(*_: Any, **__: Any) -> None:
        raise fault

    return fail


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
    assert re.search(r"volume of \d+\.\d MB; \d+ MB used, \d+ MB free", str(job.error))
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
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # each takes address space before torch does
    source = addVolume()
    untouched()
    logic.launcher = Spy(RLIMIT_AS=400 << 20)
    with pytest.raises(OutOfMemory, match=FIGURES):
        logic.translate(source, tinyModel, steps=2)
    untouched()


# Everything is loaded before the limit: where imports run out of memory anything may happen.
FULL = """
import resource, sys
from pathlib import Path
import midiffusion.pipeline.translate, midiffusion.worker.tasks.translate
from midiffusion.worker import service as worker
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
worker.main(sys.argv[1:2])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_no_memory_for_the_volume(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any
) -> None:
    import slicer

    fine = np.diag([0.1, 0.1, 3.0, 1.0])
    source = addVolume(np.tile(head((16, 100, 100)), (1, 16, 16)), fine)
    size = slicer.util.arrayFromVolume(source).nbytes
    untouched()
    logic.launcher = lambda folder: launchScript(folder, FULL, size // 2)
    with pytest.raises(OutOfMemory, match=FIGURES):
        logic.translate(source, tinyModel, steps=2)
    untouched()


def test_no_memory_for_the_copy_of_the_volume(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any, monkeypatch: Any
) -> None:
    source = addVolume(np.arange(3 << 20, dtype=np.int16).reshape(3, 1 << 10, 1 << 10))
    untouched()
    monkeypatch.setattr("MIDiffusionTranslateLib.logic.volumeFromNode", raising(MemoryError()))
    with pytest.raises(OutOfMemory, match=r"volume of 6\.0 MB \(\d+ MB used, \d+ MB free"):
        logic.translate(source, tinyModel)
    assert spy.processes == []
    untouched()


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (MemoryError(), "out-of-memory", "memory is too small"),
        (ZeroDivisionError("by zero"), "internal", "could not be prepared .by zero"),
    ],
)
def test_an_unexpected_fault_while_preparing(
    fault: Exception,
    code: str,
    words: str,
    scene: Any,
    addVolume: Any,
    logic: Any,
    spy: Spy,
    tinyModel: Path,
    untouched: Any,
    monkeypatch: Any,
) -> None:
    source, ended = addVolume(), []
    untouched()
    monkeypatch.setattr(JobFolder, "writeArray", raising(fault))
    job = logic.start(source, tinyModel, onDone=ended.append)
    assert job.state == "failed"
    assert job.error.code == code
    assert re.search(words, str(job.error))
    assert ended == [job]
    assert logic.jobs == [] and spy.processes == []
    untouched(job)
    cancelled: list[object] = []
    monkeypatch.setattr(job, "cancel", lambda: cancelled.append(job))
    scene.Clear(0)
    assert cancelled == []  # the scene is not observed any more


MALFORMED = (
    "[1]",
    '{"event": "progress"}',
    '{"event": "progress", "step": "one", "of": 1, "slices_done": 0, "slices": 1,'
    ' "eta_s": null, "device": "cpu", "memory": null}',
    '{"event": "preview"}',
    '{"event": "warning"}',
    '{"event": "error"}',
    '{"event": "error", "code": [], "message": "unhashable"}',
    "[" * 5000,
)


def test_malformed_events_go_to_the_log(
    addVolume: Any, logic: Any, tinyModel: Path, waitFor: Any
) -> None:
    script = (
        "import sys\nfrom midiffusion.worker import service\n"
        "print(*sys.argv[2:], sep='\\n', flush=True)\nservice.main(sys.argv[1:2])"
    )
    logic.launcher = lambda folder: launchScript(folder, script, *MALFORMED)
    job = logic.start(addVolume(), tinyModel, steps=1)
    waitFor(job)
    assert job.state == "done", job.error
    assert set(MALFORMED) <= set(job.log)
    assert job.warnings == []


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


@pytest.mark.skipif(os.name == "nt", reason="executable files the POSIX way")
def test_slicer_s_python_is_for_slicer_alone(tmp_path: Path, monkeypatch: Any) -> None:
    other = tmp_path / "PythonSlicer"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythonInterpreter() == sys.executable
    for application in ("/opt/Slicer/bin/SlicerApp-real", "", None):
        monkeypatch.setattr("sys.executable", application)
        assert pythonInterpreter() == str(other)
    other.unlink()
    with pytest.raises(WorkerDied, match="repair the installation"):
        pythonInterpreter()


def test_a_result_that_the_scene_can_t_take(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any, monkeypatch: Any
) -> None:
    source = addVolume(head())
    untouched()

    monkeypatch.setattr(
        "MIDiffusionTranslateLib.scene.volumes._putBeside", raising(RuntimeError("no room"))
    )
    with pytest.raises(Exception, match="could not be added to the scene .no room"):
        logic.translate(source, tinyModel, steps=1)
    untouched()
