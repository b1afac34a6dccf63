"""Training a target of one's own in the panel, with a real training of a tiny network."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.models import registry
from panel.conftest import PanelDriver
from trainingimages import quickLauncher, saveVolumes


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return saveVolumes(tmp_path / "images")


@pytest.fixture
def quick(driver: PanelDriver, images: Path) -> Callable[..., Any]:
    """prepare(checkpoint_s): the section filled in, a minute lasting four seconds in the worker."""

    def prepare(checkpoint_s: float = 0.5) -> Any:
        driver.widget.logic.launcher = quickLauncher(checkpoint_s)
        ui = driver.widget.training.ui
        ui.trainSection.collapsed = False
        ui.trainDataEdit.text, ui.trainNameEdit.text = str(images), "My model"
        ui.trainMinutesBox.value = 60
        driver.widget.training.refresh()
        return driver.widget.training

    return prepare


def trained(models: Path) -> list[str]:
    """Names of the models in the folder."""
    return sorted(path.name for path in models.iterdir() if path.name != "backbone")


def start(section: Any) -> Any:
    assert section.ui.trainButton.enabled, section.ui.trainButton.toolTip
    section.ui.trainButton.click()
    assert section.job is not None, section.ui.trainStatusLabel.text
    return section.job


def waitFor(driver: PanelDriver, section: Any, condition: Callable[[], Any]) -> None:
    driver.session.wait(lambda: condition() or section.job is None, 300)
    assert section.job is not None, section.ui.trainStatusLabel.text


def waitForEnd(driver: PanelDriver, section: Any) -> None:
    driver.session.wait(lambda: section.job is None, 300, "the end of the training")


def assertIdle(driver: PanelDriver, section: Any) -> None:
    driver.assertIdle()
    assert not section.ui.trainArea.visible and section.ui.trainInputs.enabled
    assert not section._timer.active


@pytest.mark.slow
def test_train_cancel_resume(driver: PanelDriver, quick: Any, models: Path) -> None:
    import slicer

    section = quick()
    ui, place = section.ui, models / "my-model"
    assert ui.trainButton.text == "Train"
    start(section)
    assert not ui.trainInputs.enabled and ui.trainButton.text == "Cancel training"
    waitFor(driver, section, lambda: ui.trainPictureLabel.visible and ui.trainCurveLabel.visible)
    assert "left, loss " in ui.trainProgressLabel.text
    ui.trainButton.click()
    assert ui.trainButton.text == "Cancelling..." and not ui.trainButton.enabled
    waitForEnd(driver, section)
    assertIdle(driver, section)
    assert "The last checkpoint is kept" in ui.trainStatusLabel.text
    assert not [path for path in place.iterdir() if "part" in path.name]
    spent = section._curve.spent_s
    assert spent > 0

    slicer.util.reloadScriptedModule("MIDiffusionTranslate")
    section = quick(1e9)
    ui = section.ui
    assert ui.trainButton.text == "Resume training"
    shown = f"'my-model' has been trained for {round(spent / 60, 1)} of 60 min."
    assert ui.trainHintLabel.text == shown
    # As many minutes as there are seconds over four, and a little more.
    ui.trainMinutesBox.value = int(spent / 4) + 1
    start(section)
    waitForEnd(driver, section)
    assertIdle(driver, section)
    assert ui.trainStatusLabel.text.startswith("Trained in ")
    assert section._curve.spent_s > spent
    entry = next(entry for entry in driver.panel.chooser.entries if entry.id == "my-model")
    registry.verify(entry)
    assert entry.card is not None and not entry.card.non_commercial
    assert entry.card.weights_licence == "As the training images allow"
    assert entry.card.title == "my-model, own images"
    assert driver.volumes() == []


@pytest.mark.slow
def test_what_ends_before_the_first_checkpoint_leaves_nothing(
    driver: PanelDriver, quick: Any, models: Path
) -> None:
    import slicer

    section = quick(1e9)
    job = start(section)
    waitFor(driver, section, lambda: (models / "my-model" / "log.csv").is_file())
    slicer.mrmlScene.Clear()
    driver.session.process(0.1)
    assert section.job is job  # a training is not the scene's
    os.kill(job._process.pid, signal.SIGKILL)
    waitForEnd(driver, section)
    assertIdle(driver, section)
    assert "The training's process was ended from outside" in section.ui.trainStatusLabel.text
    assert trained(models) == ["tiny"]
    assert section.ui.trainButton.text == "Train"

    start(section)
    section.ui.trainButton.click()
    waitForEnd(driver, section)
    assert "before there was anything to keep" in section.ui.trainStatusLabel.text
    assert trained(models) == ["tiny"]

    start(section)
    waitFor(driver, section, lambda: (models / "my-model" / "log.csv").is_file())
    slicer.util.reloadScriptedModule("MIDiffusionTranslate")
    assert driver.workers() == []
    assertIdle(driver, driver.widget.training)
    assert trained(models) == ["tiny"]
    assert driver.volumes() == []


def test_cancel_keeps_what_was_trained_at_once(
    driver: PanelDriver, quick: Any, models: Path
) -> None:
    section = quick(1e9)
    start(section)
    # Reported after some steps; the next checkpoint by itself is far away.
    waitFor(driver, section, lambda: section._curve.loss)
    section.ui.trainButton.click()
    waitForEnd(driver, section)
    assertIdle(driver, section)
    assert "The last checkpoint is kept" in section.ui.trainStatusLabel.text
    assert section.ui.trainButton.text == "Resume training"
    entry = next(entry for entry in driver.panel.chooser.entries if entry.id == "my-model")
    registry.verify(entry)


@pytest.mark.slow
def test_a_hanging_training_is_ended(
    driver: PanelDriver, quick: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MIDiffusionTranslateLib.panel import train_section

    section = quick(1e9)
    job = start(section)
    reading = job.silence_s  # longer while the images are read
    waitFor(driver, section, lambda: section._curve.loss and job.silence_s != reading)
    assert math.inf > reading > job.silence_s == train_section._SILENCE_S
    os.kill(job._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(train_section, "_SILENCE_S", 0.5)  # for a sign that is still under way
    job.silence_s = 0.5
    waitForEnd(driver, section)
    assertIdle(driver, section)
    assert "The training gave no sign of life" in section.ui.trainStatusLabel.text
    assert trained(models) == ["tiny"]


def test_images_that_can_t_be_used(driver: PanelDriver, quick: Any, models: Path) -> None:
    section = quick()
    images = Path(section.ui.trainDataEdit.text)
    for path in images.iterdir():
        path.write_bytes(b"no image")
    start(section)
    waitForEnd(driver, section)
    assertIdle(driver, section)
    assert "can't be trained on" in section.ui.trainStatusLabel.text
    assert trained(models) == ["tiny"]


def test_what_is_needed_before_a_training(
    driver: PanelDriver, quick: Any, images: Path, models: Path, tmp_path: Path
) -> None:
    section = quick()
    ui, empty = section.ui, tmp_path / "empty"
    empty.mkdir()
    (models / "photos").mkdir()
    (models / "photos" / "cat.jpg").touch()
    for data, name, words in (
        ("", "a", "Choose a folder with volumes"),
        (str(tmp_path / "nowhere"), "a", "There is no folder"),
        (str(empty), "a", "holds no volumes"),
        (str(images), "", "Name the new model"),
        (str(images), "größe", "letters a to z"),
        (str(images), "tiny", "The name 'tiny' is taken"),
        (str(images), "flair", "The name 'flair' is taken"),
        (str(images), "photos", "The name 'photos' is taken"),
    ):
        ui.trainDataEdit.text, ui.trainNameEdit.text = data, name
        section.refresh()
        assert not ui.trainButton.enabled, name
        assert words in ui.trainHintLabel.text and words in ui.trainButton.toolTip
    section.packages = type(
        "None", (), {"missing": lambda s: ["torch"], "offer": lambda s: "No."}
    )()
    section.refresh()
    assert ui.trainHintLabel.text == "No."


def test_inputs_are_the_computer_s_and_become_arguments(
    driver: PanelDriver, quick: Any, models: Path
) -> None:
    section = quick()
    section.ui.trainKindSelector.currentIndex = 1
    section.ui.trainMinutesBox.value = 7
    asked: list[Any] = []

    def begin(task: str, parameters: dict[str, Any], **_: Any) -> Any:
        asked.append((task, parameters["arguments"]))
        return type("Ended", (), {"finished": True})()

    section.logic = type("Recorder", (), {"begin": staticmethod(begin)})()
    section.ui.trainButton.click()
    data = section.ui.trainDataEdit.text
    words = ["--target", "my-model", "--data", data, "--out", str(models / "my-model")]
    words += ["--max-minutes", "7", "--device", "cpu", "--like", "ct"]
    assert asked == [("train", words)]
    import slicer

    slicer.util.reloadScriptedModule("MIDiffusionTranslate")
    ui = driver.widget.training.ui
    assert (ui.trainDataEdit.text, ui.trainNameEdit.text) == (data, "my-model")
    assert (ui.trainKindSelector.currentIndex, ui.trainMinutesBox.value) == (1, 7)


def test_a_curve_of_a_resumed_run_goes_back_to_the_checkpoint(tmp_path: Path) -> None:
    from MIDiffusionTranslateLib.panel.training_folder import TrainingFolder

    folder = TrainingFolder(tmp_path)
    assert folder.curve().loss == ()
    head = "step,seconds,images,loss,validation_loss,images_per_second\n"
    rows = ["1,5.0,8,0.9,,1", "2,10.0,16,0.8,0.7,1", "3,15.0,24,0.5,,1", "3,12.0,24,0.6,0.65,1"]
    (tmp_path / "log.csv").write_text(head + "\n".join(rows) + "\n4,20.")
    curve = folder.curve()
    assert curve.seconds == (5.0, 10.0, 12.0) and curve.loss == (0.9, 0.8, 0.6)
    assert (curve.heldBackSeconds, curve.heldBackLoss) == ((10.0, 12.0), (0.7, 0.65))
    (tmp_path / "log.csv").write_text(head + "\n".join(rows) + "\n4,20.0,32,0.4,,1\n")
    assert folder.curve().spent_s == 20.0


def test_tidying_keeps_what_is_whole_and_what_is_not_ours(tmp_path: Path) -> None:
    from MIDiffusionTranslateLib.panel.training_folder import TrainingFolder

    unfinished = ("checkpoint.safetensors.partial", ".card.json.part", ".weights.safetensors.part")
    for kept in (["checkpoint.safetensors", "log.csv"], ["notes.txt"], []):
        place = tmp_path / str(len(kept))
        place.mkdir()
        for name in (*unfinished, "log.csv", *kept):
            (place / name).touch()
        TrainingFolder(place).tidy()
        left = sorted(path.name for path in place.iterdir()) if place.exists() else None
        assert left == (sorted(kept) or None)


def test_the_curve_is_drawn_where_it_belongs() -> None:
    from MIDiffusionTranslateLib.panel.loss_curve import curveImage
    from MIDiffusionTranslateLib.panel.training_folder import Curve

    image = curveImage(Curve((10.0, 50.0), (1.0, 0.5), (50.0,), (0.25,)), 100.0, 101, 81)
    line = np.where(image == 1.0, np.arange(81)[:, None], 1000).min(axis=0)
    assert (line[:10] == 1000).all() and (line[51:] == 1000).all()  # nothing is foretold
    assert line[10] == 0 and abs(int(line[50]) - 40) <= 1 and abs(int(line[30]) - 20) <= 1
    assert image[60, 50] == 0.75
    assert curveImage(Curve(), 60.0).max() < 1.0


def test_damaged_settings_are_no_obstacle(session: Any) -> None:
    import qt
    from MIDiffusionTranslateLib.settings import ComputerSettings, TrainingInputs

    store = qt.QSettings()
    for text in ("{", "[]", json.dumps({"colour": 1}), json.dumps({"kind": "pet"})):
        store.setValue("MIDiffusion/Training", text)
        assert ComputerSettings(store).training == TrainingInputs()
