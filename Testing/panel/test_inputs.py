"""What the panel offers, refuses, remembers and asks before anything runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import types
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import changeCard, saveTiny
from midiffusion.errors import DependencyMissing, LicenceNotAccepted, WorkerDied
from panel.conftest import MODULE, ROOT, PanelDriver

AddVolume = Callable[..., Any]
NO, YES = 0x00010000, 0x00004000  # QMessageBox.No, .Yes


def assertDisabled(driver: PanelDriver, reason: str) -> None:
    button = driver.ui.translateButton
    assert not button.enabled
    assert reason in button.toolTip
    assert reason in driver.ui.hintLabel.text and driver.ui.hintLabel.visible


def test_without_a_source(driver: PanelDriver) -> None:
    assertDisabled(driver, "Select the volume to translate.")
    assert driver.ui.estimateLabel.text == "-"


def test_label_maps_are_not_offered(driver: PanelDriver, addVolume: AddVolume) -> None:
    labels = addVolume("Labels", "vtkMRMLLabelMapVolumeNode")
    assert driver.ui.sourceSelector.nodeCount() == 0
    assert driver.ui.outputSelector.nodeCount() == 0
    driver.widget.initializeParameterNode()
    assert driver.parameters.sourceVolume is None
    driver.parameters.sourceVolume = labels  # by a script
    assertDisabled(driver, "'Labels' is not an image")


def test_the_first_image_is_preselected(driver: PanelDriver, addVolume: AddVolume) -> None:
    addVolume("Labels", "vtkMRMLLabelMapVolumeNode")
    image = addVolume("T1")
    driver.representation.exit()
    driver.representation.enter()
    assert driver.parameters.sourceVolume is image
    assert driver.ui.sourceSelector.currentNode() is image
    assert driver.ui.translateButton.enabled


def test_an_image_loaded_later_enables_translate(driver: PanelDriver, addVolume: AddVolume) -> None:
    import slicer

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    driver.parameters.sourceVolume = empty
    assertDisabled(driver, "'Empty' holds no image yet")
    slicer.util.updateVolumeFromArray(empty, slicer.util.arrayFromVolume(addVolume("T1")))
    assert driver.ui.translateButton.enabled


def test_the_output_can_not_be_the_source(ready: PanelDriver) -> None:
    ready.parameters.outputVolume = ready.parameters.sourceVolume
    assertDisabled(ready, "can't be the source itself")


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
    assertDisabled(ready, "The model 'atlantis' is not on this computer")
    assert ready.ui.modelSelector.currentIndex == -1


def test_a_broken_card(ready: PanelDriver, models: Path) -> None:
    changeCard(models / "tiny", sigma_max=-1)
    ready.panel.chooser.list()
    assertDisabled(ready, "field 'sigma_max'")
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
    assertDisabled(driver, "No model was found")
    (tmp_path / "tiny").rename(models / "tiny")
    driver.representation.exit()
    driver.representation.enter()
    assert driver.parameters.model == "tiny"
    assertDisabled(driver, "Select the volume to translate.")


def test_a_folder_without_models(ready: PanelDriver, tmp_path: Path) -> None:
    ready.panel.chooser.setFolder(str(tmp_path / "nowhere"))
    assert "No model was found in" in ready.status
    assertDisabled(ready, "The model 'tiny' is not on this computer")
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


def test_device_and_folder_are_the_computer_s_and_inputs_the_scene_s(
    ready: PanelDriver, models: Path
) -> None:
    import slicer

    ready.ui.stepsSlider.value = 33
    ready.ui.seedBox.value = 5
    ready.ui.samplesBox.value = 3
    ready.ui.samplerSelector.currentIndex = 2
    ready.ui.deviceSelector.currentIndex = 2
    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    scene.Commit()
    saved = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(0)
    assert str(models) not in saved
    scene.Clear()
    ready.session.process()
    assert ready.ui.stepsSlider.value != 33
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(saved)
    scene.Import()
    scene.SetLoadFromXMLString(0)
    ready.session.process()
    assert ready.ui.stepsSlider.value == 33
    assert ready.ui.seedBox.value == 5
    assert ready.ui.samplesBox.value == 3
    assert ready.ui.samplerSelector.currentText == "Predictor-corrector (stochastic)"
    assert ready.parameters.sourceVolume.GetName() == "T1"
    assert ready.parameters.model == "tiny"
    assert ready.ui.sourceSelector.currentNode().GetName() == "T1"
    assert ready.ui.deviceSelector.currentIndex == 2
    assert ready.ui.modelFolderEdit.text == str(models)


def test_the_sampler_s_choices_are_those_there_are() -> None:
    from midiffusion.samplers import SAMPLERS
    from MIDiffusionTranslateLib.parameters import Sampler

    assert {choice.value for choice in Sampler} == {"default", *SAMPLERS}


# licences


def refuse(folder: Path) -> Any:
    """What starts no worker, and says that it was asked to."""
    raise WorkerDied("started")


def test_a_non_commercial_licence_is_asked_for_once(ready: PanelDriver, models: Path) -> None:
    ready.widget.logic.launcher = refuse
    changeCard(models / "tiny", non_commercial=True, weights_licence="CC BY-NC 4.0")
    ready.panel.chooser.list()
    ready.session.app.setTesting(False)
    ready.session.answer = lambda text: NO
    ready.click()
    ready.assertIdle()
    assert len(ready.session.dialogs) == 1
    assert "CC BY-NC 4.0" in ready.session.dialogs[0]
    assert ready.status == "Not translated: the licence of 'Tiny FLAIR' was not accepted."
    ready.session.answer = lambda text: YES
    ready.click()
    assert ready.status == "started"
    ready.click()
    assert len(ready.session.dialogs) == 2
    changeCard(models / "tiny", weights_licence="Another licence")
    ready.panel.chooser.list()
    ready.click()
    assert len(ready.session.dialogs) == 3


def test_the_console_asks_for_the_same_consent(ready: PanelDriver, models: Path) -> None:
    changeCard(models / "tiny", non_commercial=True)
    logic, source = ready.widget.logic, ready.parameters.sourceVolume
    logic.launcher = refuse
    ready.session.app.setTesting(False)
    ready.session.answer = lambda text: NO
    for call in (logic.start, logic.translate, lambda node, *a, **o: logic.startAll([node], **o)):
        with pytest.raises(LicenceNotAccepted):
            call(source, model="tiny", modelFolder=models)
    assert len(ready.session.dialogs) == 3
    ready.session.answer = lambda text: YES
    assert "started" in str(logic.start(source, model="tiny", modelFolder=models).error)
    ready.panel.chooser.list()
    ready.click()  # the panel knows of it
    assert len(ready.session.dialogs) == 4


def test_testing_mode_asks_nothing(ready: PanelDriver, models: Path) -> None:
    ready.widget.logic.launcher = refuse
    changeCard(models / "tiny", non_commercial=True)
    ready.panel.chooser.list()
    ready.click()
    assert ready.status == "started"
    assert ready.session.dialogs == []


# packages


class Machine:
    """A computer with some packages, and the two installers."""

    def __init__(
        self, *packages: str, testing: bool = False, fails: str = "", torch: str = "2.1.0"
    ) -> None:
        self.packages, self.testing, self.fails = set(packages), testing, fails
        self.torch = torch
        self.asked: list[str] = []

    def dependencies(self) -> Any:
        from MIDiffusionTranslateLib.install import Dependencies

        return Dependencies(
            found=lambda name: name in self.packages,
            torchVersion=lambda: self.torch if "torch" in self.packages else None,
            testing=lambda: self.testing,
            torchInstaller=lambda: self,
            ensure=self.ensure,
        )

    def installTorch(
        self, askConfirmation: bool = False, *, torchVersionRequirement: str | None = None
    ) -> object:
        assert askConfirmation
        self.asked.append(f"torch{torchVersionRequirement}")
        if self.fails:
            raise RuntimeError(self.fails)
        self.packages.add("torch")
        self.torch = "2.9.1+cpu"
        return None

    def ensure(self, requirements: Path) -> None:
        assert "safetensors" in requirements.read_text("utf-8")
        self.asked.append("requirements")
        self.packages.add("safetensors")


def test_missing_packages_are_offered_and_installed_on_a_click(ready: PanelDriver) -> None:
    machine = Machine()
    ready.panel.packages = machine.dependencies()
    ready.panel.refresh()
    assertDisabled(ready, "Nothing is installed by itself: click Install and agree")
    assert ready.ui.installButton.visible
    assert machine.asked == []
    ready.ui.installButton.click()
    assert machine.asked == ["torch>=2.1", "requirements"]
    assert ready.status == "Everything needed is installed."
    assert not ready.ui.installButton.visible
    assert ready.ui.translateButton.enabled


def test_an_installation_that_fails(ready: PanelDriver) -> None:
    ready.panel.packages = Machine(fails="no network").dependencies()
    ready.panel.refresh()
    ready.ui.installButton.click()
    assert "The installation did not succeed (no network)" in ready.status
    assert ready.ui.installButton.visible
    assertDisabled(ready, "Not installed yet")


def test_nothing_is_installed_in_testing_mode() -> None:
    machine = Machine(testing=True)
    with pytest.raises(DependencyMissing, match="testing mode"):
        machine.dependencies().install()
    assert machine.asked == []


def test_a_declined_installation() -> None:
    machine = Machine("safetensors")
    machine.installTorch = lambda ask, **_: None  # type: ignore[method-assign]
    with pytest.raises(DependencyMissing, match="Not installed: torch"):
        machine.dependencies().install()


def _dependencies(monkeypatch: pytest.MonkeyPatch, failure: str) -> Any:
    """With torch and nothing else, where Slicer's own installation ends in this failure."""
    from MIDiffusionTranslateLib.install import Dependencies

    def fail(requirements: object, requester: str) -> None:
        raise RuntimeError(failure)

    packaging = types.ModuleType("slicer.packaging")
    packaging.load_requirements = Path.read_text  # type: ignore[attr-defined]
    packaging.pip_ensure = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    return Dependencies(found=lambda name: name == "torch", testing=lambda: False)


def test_a_declined_question_of_slicer_s_pip_is_no_fault(
    session: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dependencies = _dependencies(monkeypatch, "User declined package installation")
    with pytest.raises(DependencyMissing, match="Not installed: safetensors. Click Install when"):
        dependencies.install()
    assert caplog.records == []


def test_a_failure_of_slicer_s_pip_is_one(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dependencies = _dependencies(monkeypatch, "no wheel")
    with pytest.raises(DependencyMissing, match="did not succeed .no wheel"):
        dependencies.install()


def test_a_torch_that_is_too_old_is_told_and_replaced(ready: PanelDriver) -> None:
    machine = Machine("torch", "safetensors", torch="2.0.1+cu118")
    ready.panel.packages = machine.dependencies()
    ready.panel.refresh()
    assertDisabled(ready, "PyTorch 2.1 or later (version 2.0.1+cu118 is too old")
    assert ready.ui.installButton.visible
    ready.ui.installButton.click()
    assert machine.asked == ["torch>=2.1"]
    assert ready.status == "Everything needed is installed."
    assert ready.ui.translateButton.enabled


@pytest.mark.parametrize(
    ("version", "old"),
    [("1.13.1", True), ("2.1.0a0", False), ("2.10.0", False), ("10.0", False), ("git", False)],
)
def test_versions_of_torch(version: str, old: bool) -> None:
    machine = Machine("torch", "safetensors", torch=version)
    assert machine.dependencies().missing() == (["torch"] if old else [])


def test_the_version_of_torch_is_that_of_its_metadata(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MIDiffusionTranslateLib.install import Dependencies

    folder = tmp_path / "torch-1.12.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.12.0\n")
    assert "torch" not in Dependencies().missing()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "torch" in Dependencies().missing()


def test_without_the_pytorch_extension(session: Any) -> None:
    from MIDiffusionTranslateLib.install import Dependencies

    dependencies = Dependencies(found=lambda name: False, testing=lambda: False)
    with pytest.raises(DependencyMissing, match="Extensions Manager"):
        dependencies.install()


def test_the_panel_opens_without_torch(tmp_path: Path) -> None:
    """In a process that can't import torch or anything else beside Slicer's own packages."""
    script = f"""
import sys
import types
import urllib.parse
import urllib.request
for name in ("torch", "safetensors", "SimpleITK", "scipy", "PIL", "matplotlib", "skimage"):
    sys.modules[name] = None
sys.path[:0] = [{str(ROOT / "Testing")!r}, {str(MODULE.parent)!r}]
import host
session = host.start({str(tmp_path)!r})
representation = session.load({str(MODULE)!r}).widgetRepresentation()
representation.enter()
ui = representation.self().ui
assert ui.installButton.visible or not ui.installButton.isHidden()
print(ui.translateButton.toolTip)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if "No model was found" not in done.stdout:
        assert "PyTorch" in done.stdout


# sample data


def test_the_sample_data_are_registered_once_slicer_has_started(
    driver: PanelDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(**source: Any) -> None:
            registered.append(source)

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    driver.session.app.startupCompleted.emit()
    assert {source["sampleName"] for source in registered} == {
        "MIDiffusionHeadT1",
        "MIDiffusionHeadFLAIR",
    }
    for source in registered:
        file = Path(urllib.request.url2pathname(urllib.parse.urlparse(source["uris"]).path))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert source["checksums"] == f"SHA256:{digest}"
        assert source["fileNames"] == file.name
        assert Path(source["thumbnailFileName"]).is_file()


def test_an_unexpected_failure_to_start_is_told(ready: PanelDriver) -> None:
    class Broken:
        def start(self, sourceNode: Any, **arguments: Any) -> Any:
            raise RuntimeError("out of luck")

    ready.panel.logic = Broken()
    ready.click()
    ready.assertIdle()
    assert "could not start (out of luck)" in ready.status
