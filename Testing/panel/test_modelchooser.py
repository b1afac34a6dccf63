"""Choosing a model in the panel: its card in words, folders of models, and models not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundles import changeCard, saveTiny
from panel.conftest import PanelDriver


def test_the_card_in_words(driver: PanelDriver) -> None:
    assert "MR FLAIR" in driver.ui.cardLabel.text
    assert "any, axial slices" in driver.ui.cardLabel.text
    assert "Apache-2.0" in driver.ui.cardLabel.text
    for part in ("tests", "never trained", "CPU 2 s", "5 mm"):
        assert part in driver.ui.cardLabel.toolTip


def test_choosing_a_model_sets_its_default_steps(driver: PanelDriver, models: Path) -> None:
    saveTiny(models / "other", id="other", title="Other", default_steps=9)
    driver.panel.chooser.list()
    driver.parameters.steps = 50
    titles = [driver.ui.modelSelector.itemText(i) for i in range(driver.ui.modelSelector.count)]
    driver.ui.modelSelector.currentIndex = titles.index("Other")
    assert driver.parameters.model == "other"
    assert driver.parameters.steps == 9
    assert driver.ui.stepsSlider.value == 9


def test_a_fresh_scene_s_target_is_the_default_and_a_choice_stays(
    ready: PanelDriver, models: Path
) -> None:
    saveTiny(models / "a-first", id="a-first", title="First by name")
    ready.representation.exit()
    ready.representation.enter()
    assert ready.parameters.model == "tiny"
    ready.slicer.mrmlScene.Clear()
    assert ready.parameters.model == "flair"  # as of the console's translate()
    changeCard(shutil.copytree(models / "tiny", models / "flair"), id="flair", sigma_max=-1)
    ready.panel.chooser.list()
    assert ready.parameters.model == "flair"  # a choice stays, whatever becomes of it
    ready.slicer.mrmlScene.Clear()
    assert ready.parameters.model == "a-first"  # a default that can't be used is none


def test_a_model_that_is_not_here(ready: PanelDriver) -> None:
    ready.parameters.model = "atlantis"
    ready.assertDisabled("The model 'atlantis' is not on this computer")
    assert ready.ui.modelSelector.currentIndex == -1


def test_a_broken_card(ready: PanelDriver, models: Path) -> None:
    changeCard(models / "tiny", sigma_max=-1)
    ready.panel.chooser.list()
    ready.assertDisabled("field 'sigma_max'")
    texts = [ready.ui.modelSelector.itemText(i) for i in range(ready.ui.modelSelector.count)]
    assert "tiny (not usable)" in texts


def test_a_bundle_copied_into_the_folder_appears_when_the_module_is_entered(
    ready: PanelDriver, models: Path
) -> None:
    saveTiny(models / "other", id="other", title="Other")
    ready.panel.say("Done.")
    ready.representation.exit()
    ready.representation.enter()
    selector = ready.ui.modelSelector
    assert "Other" in [selector.itemText(i) for i in range(selector.count)]
    assert selector.currentText == "Tiny FLAIR"
    assert ready.parameters.model == "tiny" and ready.parameters.steps == 4
    assert ready.status == "Done."


def test_the_first_bundle_of_all_is_chosen_when_the_module_is_entered(
    driver: PanelDriver, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.panel.chooser.models, "shipped_folder", lambda: tmp_path / "none")
    (models / "tiny").rename(tmp_path / "tiny")
    driver.parameters.model = ""
    driver.panel.chooser.list()
    driver.assertDisabled("No model was found")
    (tmp_path / "tiny").rename(models / "tiny")
    driver.representation.exit()
    driver.representation.enter()
    assert driver.parameters.model == "tiny"
    driver.assertDisabled("Select the volume to translate.")


def test_a_folder_without_models(ready: PanelDriver, tmp_path: Path) -> None:
    ready.panel.chooser.setFolder(str(tmp_path / "nowhere"))
    assert "No model was found in" in ready.status
    ready.assertDisabled("The model 'tiny' is not on this computer")
    ready.ui.clearFolderButton.click()
    assert ready.ui.modelFolderEdit.text == ""
    assert ready.status == ""


def test_browsing_for_a_folder(driver: PanelDriver, models: Path) -> None:
    driver.panel.chooser.setFolder("")
    driver.panel.chooser.chooseFolder = lambda start: ""
    driver.ui.browseButton.click()
    assert driver.ui.modelFolderEdit.text == ""
    driver.panel.chooser.chooseFolder = lambda start: str(models)
    driver.ui.browseButton.click()
    assert driver.ui.modelFolderEdit.text == str(models)
    assert driver.panel.chooser.entry.id == "tiny"
