"""Choosing a model in the panel: its card in words, folders of models, and models not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundles import changeCard, saveTiny
from panel.conftest import PanelDriver


def test_the_card_in_words(driver: PanelDriver) -> None:
    assert "For: head, any." in driver.ui.cardLabel.text
    assert "never trained" not in driver.ui.cardLabel.text
    driver.ui.cardLabel.linkActivated.emit("#")  # About this model
    for part in ("tests", "never trained", "CPU 2 s", "5 mm", "Apache-2.0"):
        assert part in driver.ui.cardLabel.text


@pytest.fixture
def nothingShipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the models of the test's own folder."""
    monkeypatch.setattr("midiffusion.models.registry.shipped_folder", lambda: tmp_path / "none")


def test_a_fresh_scene_s_target_is_the_default_and_a_choice_stays(
    nothingShipped: None, ready: PanelDriver, models: Path
) -> None:
    saveTiny(models / "a-first", id="a-first", title="First by name")
    ready.representation.exit()
    ready.representation.enter()
    assert ready.parameters.model == "tiny"
    ready.slicer.mrmlScene.Clear()
    assert ready.parameters.model == "a-first"  # there is no default
    shutil.copytree(models / "tiny", models / "flair")
    changeCard(models / "flair", id="flair")
    ready.panel.chooser.list()
    assert ready.parameters.model == "a-first"  # a choice stays
    ready.slicer.mrmlScene.Clear()
    assert ready.parameters.model == "flair"  # as of the console's translate()


def test_a_permissive_licence_is_preselected_and_others_are_marked(
    nothingShipped: None, driver: PanelDriver, models: Path
) -> None:
    saveTiny(models / "flair", id="flair", title="Restricted", non_commercial=True)
    driver.panel.chooser.list()
    driver.slicer.mrmlScene.Clear()
    assert driver.parameters.model == "tiny"
    selector = driver.ui.modelSelector
    assert "Restricted (non-commercial)" in [
        selector.itemText(row) for row in range(selector.count)
    ]
    driver.parameters.model = "flair"
    assert "Non-commercial use only (Apache-2.0)." in driver.ui.cardLabel.text


def test_a_model_that_is_not_here(ready: PanelDriver) -> None:
    ready.parameters.model = "atlantis"
    ready.assertDisabled("The model 'atlantis' is not on this computer")
    assert ready.ui.modelSelector.currentIndex == -1


def test_a_broken_card(ready: PanelDriver, models: Path) -> None:
    changeCard(models / "tiny", pixel_mm=-1)
    ready.panel.chooser.list()
    ready.assertDisabled("field 'pixel_mm'")
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
    assert ready.parameters.model == "tiny"
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
