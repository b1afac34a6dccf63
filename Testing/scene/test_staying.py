"""One worker for several translations, and every reason to end it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from bundles import changeCard, saveTiny
from midiffusion.errors import CorruptModel, OutOfMemory, WorkerDied
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume
from scene.launching import Spy
from scene.phantoms import OBLIQUE, head
from scene.test_worker import isAlive


def test_a_second_translation_uses_the_worker_again_with_the_same_result(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, handover: Path
) -> None:
    source = addVolume()
    nodes = [logic.translate(source, tinyModel) for _ in range(3)]
    assert len(spy.processes) == 1
    first, *others = map(slicer.util.arrayFromVolume, nodes)
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert list(handover.iterdir()) == []
    logic.abandonAll()
    assert not isAlive(spy.pid)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["model", "device"])
def test_another_model_or_device_ends_the_idle_worker(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, tmp_path: Path, other: str
) -> None:
    source = addVolume()
    logic.translate(source, tinyModel, device="cpu")
    first = spy.pid
    if other == "model":
        logic.translate(source, saveTiny(tmp_path / "second", id="second"), device="cpu")
    else:
        logic.translate(source, tinyModel)
    assert len(spy.processes) == 2
    assert not isAlive(first)


@pytest.mark.slow
def test_changed_files_of_a_model_are_read_again(
    addVolume: Any, logic: Any, spy: Spy, tmp_path: Path
) -> None:
    model, source = saveTiny(tmp_path / "models" / "mine"), addVolume()
    before = logic.translate(source, model)
    changeCard(model, contrast="t2")
    after = logic.translate(source, model)
    assert len(spy.processes) == 1
    difference = slicer.util.arrayFromVolume(before) - slicer.util.arrayFromVolume(after)
    assert np.abs(difference).max() > 1
    backbone = tmp_path / "models" / "backbone" / "weights.safetensors"
    data = bytearray(backbone.read_bytes())
    data[-1] ^= 255
    backbone.write_bytes(data)
    with pytest.raises(CorruptModel):
        logic.translate(source, model)


def test_a_killed_idle_worker_is_replaced_unnoticed(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path
) -> None:
    source = addVolume()
    logic.translate(source, tinyModel)
    os.kill(spy.pid, signal.SIGKILL)
    assert logic.translate(source, tinyModel) is not None
    assert len(spy.processes) == 2


@pytest.mark.slow
def test_a_worker_that_ends_as_it_is_asked_is_replaced_unnoticed(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, waitFor: Any
) -> None:
    source = addVolume()
    logic.translate(source, tinyModel)
    os.kill(spy.pid, signal.SIGSTOP)
    job = logic.start(source, tinyModel)
    waitFor(job, lambda: job.state == "running")
    assert len(spy.processes) == 1
    os.kill(spy.pid, signal.SIGKILL)
    waitFor(job)
    assert job.state == "done", job.error
    assert len(spy.processes) == 2


@pytest.mark.slow
def test_a_failure_ends_the_worker(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, monkeypatch: Any
) -> None:
    source = addVolume()
    logic.translate(source, tinyModel)
    used = spy.pid
    # On our side: the worker has done its part.
    monkeypatch.setattr("MIDiffusionTranslateLib.scene.results.addLayers", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="division"):
        logic.translate(source, tinyModel)
    assert len(spy.processes) == 1 and not isAlive(used)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_reused_worker_can_be_cancelled_and_its_death_is_noticed(
    addVolume: Any,
    logic: Any,
    spy: Spy,
    tinyModel: Path,
    waitFor: Any,
    handover: Path,
    end: str,
) -> None:
    source = addVolume()
    logic.translate(source, tinyModel)
    job = logic.start(source, tinyModel, steps=1_000_000)
    waitFor(job, lambda: job.progress is not None)
    if end == "cancel":
        job.cancel()
    else:
        os.kill(spy.pid, signal.SIGKILL)
    waitFor(job)
    assert job.state == ("cancelled" if end == "cancel" else "failed")
    assert end == "cancel" or isinstance(job.error, WorkerDied)
    assert not isAlive(spy.pid)
    assert len(spy.processes) == 1
    assert list(handover.iterdir()) == []


def test_an_idle_worker_ends_itself(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("MIDiffusionTranslateLib.worker.job.IDLE_S", 0.3)
    source = addVolume()
    logic.translate(source, tinyModel)
    deadline = time.monotonic() + 20
    while not spy.processes[0].exited():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert logic.translate(source, tinyModel) is not None
    assert len(spy.processes) == 2


@pytest.mark.slow
def test_another_task_and_a_shortage_of_memory_end_the_idle_worker(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, monkeypatch: Any, waitFor: Any
) -> None:
    def fail(node: Any) -> None:
        raise MemoryError

    source = addVolume()
    logic.translate(source, tinyModel)
    used = spy.pid
    waitFor(logic.begin("probe", {"device": "cpu"}, name="probe", onDone=lambda job: None))
    assert not isAlive(used)
    logic.translate(source, tinyModel)
    with monkeypatch.context() as short:
        short.setattr("MIDiffusionTranslateLib.logic.volumeFromNode", fail)
        with pytest.raises(OutOfMemory):
            logic.translate(source, tinyModel)
    assert not isAlive(spy.pid)


def test_a_batch_of_files_uses_one_worker(
    logic: Any, scene: Any, spy: Spy, tinyModel: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    write_volume(tmp_path / "a.nrrd", Volume(head(), OBLIQUE))
    shutil.copy(tmp_path / "a.nrrd", tmp_path / "b.nrrd")
    batch = logic.translateAll(tmp_path, tmp_path / "out", model=tinyModel)
    assert [item.state for item in batch.items] == ["done", "done"]
    assert len(spy.processes) == 1


def test_the_error_map_is_added_when_asked_for(
    scene: Any, addVolume: Any, logic: Any, tinyModel: Path, waitFor: Any
) -> None:
    source = addVolume()
    job = logic.start(source, tinyModel, errorMap=True)
    waitFor(job)
    values = slicer.util.arrayFromVolume(job.errorMapNode)
    assert job.errorMapNode.GetName() == "Error map of synthetic FLAIR of T1"
    assert values.shape == slicer.util.arrayFromVolume(source).shape and values.min() >= 0
    assert job.typicalError == pytest.approx(np.median(values[values > 0]))
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    logic.translate(source, tinyModel)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count + 1
