"""Many volumes, one after the other, in a real worker process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion.errors import InvalidParameter, LicenceNotAccepted, UnknownModel, UnreadableFile
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume
from scene.launching import Spy
from scene.phantoms import OBLIQUE, head


def rows(table: Any) -> list[list[str]]:
    """The table's texts, the numbers of seconds and error left out."""
    return [
        [table.GetCellText(row, column) for column in (0, 1, 2, 5)]
        for row in range(table.GetNumberOfRows())
    ]


def test_one_bad_item_and_one_killed_worker_do_not_stop_the_rest(
    scene: Any, addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, handover: Path
) -> None:
    sources = [
        addVolume(np.zeros((3, 4, 5), np.int16), name="Empty"),
        addVolume(name="Killed"),
        addVolume(name="Good"),
    ]
    killed = []

    def kill(batch: Any) -> None:
        if batch.current.name == "Killed" and batch.progress is not None and not killed:
            killed.append(os.kill(spy.pid, signal.SIGKILL))

    batch = logic.translateAll(sources, onProgress=kill, model=tinyModel, steps=30)
    assert [item.state for item in batch.items] == ["failed", "failed", "done"]
    bad, dead, good = rows(batch.table)
    assert bad[:3] == ["Empty", "failed", ""] and "constant" in bad[3]
    assert "SIGKILL" in dead[3]
    assert good == ["Good", "done", "Synthetic FLAIR of Good", ""]
    assert float(batch.table.GetCellText(2, 3)) > 0  # typical error
    assert batch.items[2].node.GetScene() is scene
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 4
    assert logic.jobs == [] and list(handover.iterdir()) == []


def test_cancel_keeps_what_is_finished_and_stops_the_rest(
    scene: Any, addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, handover: Path
) -> None:
    sources = [addVolume(name=name) for name in ("First", "Second", "Third")]

    def cancel(batch: Any) -> None:
        if batch.current.name == "Second" and batch.progress is not None:
            batch.cancel()

    batch = logic.translateAll(sources, onProgress=cancel, model=tinyModel, steps=30)
    assert [item.state for item in batch.items] == ["done", "cancelled", "cancelled"]
    assert [row[1] for row in rows(batch.table)] == ["done", "cancelled", "not started"]
    assert len(spy.processes) == 1  # which the first left for the second
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 4
    assert logic.jobs == [] and list(handover.iterdir()) == []


@pytest.mark.slow
def test_a_scene_closed_on_the_way_gets_no_summary(
    scene: Any, addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, tmp_path: Path
) -> None:
    def close(batch: Any) -> None:
        if batch.progress is not None and scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode"):
            scene.Clear()

    ended = []
    sources = [addVolume(name=name) for name in ("First", "Second")]
    batch = logic.startAll(sources, onProgress=close, onDone=ended.append, model=tinyModel)
    logic.wait(batch)
    assert [item.state for item in batch.items] == ["cancelled", "cancelled"]

    # Files have nothing to do with the scene: they go on, without a summary in the next one.
    write_volume(tmp_path / "a.nrrd", Volume(head(), OBLIQUE))
    addVolume()
    batch = logic.startAll(
        tmp_path, tmp_path, onProgress=close, onDone=ended.append, model=tinyModel
    )
    logic.wait(batch)
    assert [item.state for item in batch.items] == ["done"]
    assert len(ended) == 2 and batch.table is None
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def test_a_folder_s_files_become_files(
    scene: Any, logic: Any, tinyModel: Path, tmp_path: Path, handover: Path
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    output.mkdir()
    for name in ("a.nii.gz", "c.nrrd"):
        write_volume(folder / name, Volume(head(), OBLIQUE))
    (folder / "b.nrrd").write_text("no image")
    (folder / "notes.txt").write_text("no volume")
    taken = output / "c_synthetic-tiny.nrrd"
    taken.write_text("mine")
    batch = logic.translateAll(folder, output, model=tinyModel, steps=1)
    assert [item.state for item in batch.items] == ["done", "failed", "failed"]
    assert "b.nrrd" in batch.items[1].message
    assert "is there already" in batch.items[2].message
    assert taken.read_text() == "mine"
    assert sorted(file.name for file in output.iterdir()) == [
        "a_synthetic-tiny.nii.gz",
        taken.name,
    ]
    made = read_volume(output / "a_synthetic-tiny.nii.gz")
    assert made.data.shape == head().shape and made.data.std() > 0
    np.testing.assert_allclose(made.ijkToRAS, OBLIQUE, atol=1e-4)
    assert rows(batch.table)[0][2] == str(output / "a_synthetic-tiny.nii.gz")
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert list(handover.iterdir()) == []


def test_what_would_fail_in_every_item_is_refused_at_once(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, tmp_path: Path, untouched: Any
) -> None:
    source = addVolume()
    (tmp_path / "a.nrrd").touch()
    untouched()
    for arguments, options, error in (
        (([source],), {"steps": 0}, InvalidParameter),
        (([source],), {"model": "no-such-model"}, UnknownModel),
        (([],), {}, InvalidParameter),
        ((tmp_path / "nowhere", tmp_path), {}, UnreadableFile),
        ((tmp_path, tmp_path / "nowhere"), {}, InvalidParameter),
        ((tmp_path,), {}, InvalidParameter),
    ):
        with pytest.raises(error):
            logic.startAll(*arguments, **{"model": tinyModel, **options})
    assert spy.processes == []
    untouched()


def test_a_declined_licence_refuses_everything(
    addVolume: Any, logic: Any, spy: Spy, tmp_path: Path, untouched: Any
) -> None:
    source, asked = addVolume(), []
    model = saveTiny(tmp_path / "restricted", id="restricted", non_commercial=True)
    untouched()

    def decline(card: Any) -> bool:
        asked.append(card.id)
        return False

    logic.licenceAccepted = decline
    for call in (logic.start, logic.translate):
        with pytest.raises(LicenceNotAccepted, match="licence of .* was not accepted"):
            call(source, model)
    with pytest.raises(LicenceNotAccepted):
        logic.startAll([source], model=model)
    assert asked == ["restricted"] * 3
    assert spy.processes == []
    untouched()
