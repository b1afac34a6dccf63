"""Pictures of the panel in each state: `python Testing/panel/screenshots.py [FOLDER]`.

Made on the host, not in Slicer: widgets and colours are Qt's Fusion style, the CTK and MRML widgets
stand-ins. Layout, texts and states are the module's own. The source is the sample T1 at a coarser
grid, the model the shipped one, the worker real. FOLDER defaults to out/screenshots.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "MIDiffusionTranslate")]

import host  # noqa: E402
from bundleserver import serving  # noqa: E402
from host.views import addViews  # noqa: E402
from trainingimages import quickLauncher, saveVolumes  # noqa: E402

WIDTH = 350


def palette(dark: bool) -> Any:
    """Qt's Fusion colours, light, or dark as Slicer's dark style has them."""
    from PySide6 import QtGui, QtWidgets

    plain = QtWidgets.QApplication.style().standardPalette()
    if not dark:
        return plain
    roles = QtGui.QPalette.ColorRole
    colours = {
        roles.Window: "#353535",
        roles.WindowText: "#ffffff",
        roles.Base: "#191919",
        roles.AlternateBase: "#353535",
        roles.ToolTipBase: "#353535",
        roles.ToolTipText: "#ffffff",
        roles.Text: "#ffffff",
        roles.PlaceholderText: "#9a9a9a",
        roles.Button: "#353535",
        roles.ButtonText: "#ffffff",
        roles.Highlight: "#2a82da",
        roles.HighlightedText: "#000000",
    }
    for role, colour in colours.items():
        plain.setColor(role, QtGui.QColor(colour))
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        plain.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor("#7f7f7f"))
    return plain


class Photographer:
    """The opened panel, and a camera that takes it in both palettes."""

    def __init__(self, folder: Path, session: host.Session) -> None:
        from PySide6 import QtWidgets

        self.folder, self.session = folder, session
        self.folder.mkdir(parents=True, exist_ok=True)
        self.application = QtWidgets.QApplication.instance()
        self.application.setStyle("Fusion")
        module = session.load(ROOT / "MIDiffusionTranslate" / "MIDiffusionTranslate.py")
        self.representation = module.widgetRepresentation()
        self.representation.enter()
        self.representation.show()
        self.widget = self.representation.self()
        self.ui, self.panel = self.widget.ui, self.widget.panel

    def take(self, name: str) -> None:
        for dark in (False, True):
            self.application.setPalette(palette(dark))
            self.representation.resize(WIDTH, 200)  # as high as it needs to be, see below
            self.session.process(0.05)
            height = max(self.representation.minimumSizeHint().height(), self._needed())
            self.representation.resize(WIDTH, height)
            self.session.process(0.05)
            image = self.representation.grab()
            if image.width() != WIDTH:
                raise RuntimeError(f"{name}: the panel needs {image.width()} pixels of width")
            image.save(str(self.folder / f"{name}-{'dark' if dark else 'light'}.png"))
        print(f"{name}: {self.ui.statusLabel.text or self.ui.hintLabel.text}")

    def _needed(self) -> int:
        return int(self.representation.layout().heightForWidth(WIDTH))

    def wait(self, condition: Callable[[], Any]) -> None:
        self.session.wait(condition, 600)


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else ROOT / "out" / "screenshots"
    with tempfile.TemporaryDirectory() as settings:
        session = host.start(settings)
        addViews(session.scene)
        camera = Photographer(folder, session)
        _photograph(camera)
        session.renew(settings)


def _photograph(camera: Photographer) -> None:
    from MIDiffusionTranslateLib.setup.packages import Dependencies

    import MIDiffusionTranslate

    ui, panel = camera.ui, camera.panel
    ids = [entry.id for entry in panel.chooser.entries]
    ui.modelSelector.currentIndex = ids.index("flair")
    camera.take("1-no-source")
    source = MIDiffusionTranslate.smallSample(2)
    source.SetName("openms_long19_T1W")
    parameters = camera.widget._parameterNode
    parameters.sourceVolume = source
    camera.take("2-ready")
    ui.advancedSection.collapsed = False
    camera.wait(lambda: panel.deviceMemory.job is None)
    camera.take("3-advanced")
    ui.advancedSection.collapsed = True

    there = panel.packages
    panel.packages = Dependencies(found=lambda name: False)
    panel.refresh()
    camera.take("4-torch-missing")
    panel.packages = there
    parameters.model = "pelvis"
    camera.take("5-model-missing")
    parameters.model = "flair"

    ui.translateButton.click()
    camera.take("6-starting")
    camera.wait(lambda: ui.previewLabel.visible and ui.progressBar.value > 60)
    camera.take("7-running")
    ui.translateButton.click()
    camera.take("8-cancelling")
    camera.wait(lambda: panel.job is None)
    camera.take("9-cancelled")
    ui.translateButton.click()
    camera.wait(lambda: panel.job is None)
    camera.take("10-done")
    _photograph_comparison(camera)
    _photograph_batch(camera)
    with tempfile.TemporaryDirectory() as folder:
        _photograph_download(camera, Path(folder))
        _photograph_training(camera, Path(folder))


def _photograph_comparison(camera: Photographer) -> None:
    import MIDiffusionTranslate

    ui, comparison = camera.ui, camera.panel.comparison
    reference = MIDiffusionTranslate.smallSample(2, "FLAIR")
    reference.SetName("openms_long19_FLAIR")
    ui.inputsSection.collapsed = ui.advancedSection.collapsed = True
    ui.comparisonSection.collapsed = False
    camera.take("21-comparison-no-reference")
    camera.widget._parameterNode.referenceVolume = reference
    camera.take("22-comparison-ready")
    ui.compareButton.click()
    camera.take("23-comparing")
    camera.wait(lambda: comparison.job is None)
    camera.take("24-compared")
    ui.comparisonSection.collapsed = True


def _photograph_batch(camera: Photographer) -> None:
    import slicer

    import MIDiffusionTranslate

    ui, batch = camera.ui, camera.panel.batch
    empty = MIDiffusionTranslate.smallSample(8)
    empty.SetName("a series that was not loaded completely")
    slicer.util.updateVolumeFromArray(empty, 0 * slicer.util.arrayFromVolume(empty))
    ui.batchSection.collapsed = False
    camera.take("25-batch-ready")
    ui.batchButton.click()
    camera.wait(lambda: "left" in ui.batchProgressLabel.text)
    camera.take("26-batch-running")
    camera.wait(lambda: batch.job is None)
    camera.take("27-batch-done")
    ui.batchFromSelector.currentIndex = 1
    camera.take("28-batch-folder")
    ui.batchFromSelector.currentIndex = 0
    ui.batchSection.collapsed = True
    ui.inputsSection.collapsed = False


def _photograph_download(camera: Photographer, folder: Path) -> None:
    ui, download = camera.ui, camera.panel.download
    models = folder / "models"
    models.mkdir()
    camera.panel.chooser.chooseFolder = lambda start: str(models)
    ui.advancedSection.collapsed = False
    with serving(ROOT / "MIDiffusionTranslate" / "Resources" / "Models" / "flair") as server:
        server.behaviour = "stall"
        ui.downloadEdit.text = server.url
        ui.downloadButton.click()
        camera.wait(lambda: ui.downloadBar.value >= 49)
        camera.take("12-downloading")
        ui.downloadButton.click()
        camera.wait(lambda: download.job is None)
        camera.take("13-download-cancelled")
        server.behaviour = ""
        ui.downloadButton.click()
        camera.wait(lambda: download.job is None)
        camera.take("14-downloaded")
    ui.advancedSection.collapsed = True


def _photograph_training(camera: Photographer, folder: Path) -> None:
    training = camera.widget.training
    ui = training.ui
    camera.ui.inputsSection.collapsed = True
    camera.panel.say("")
    camera.widget.logic.launcher = quickLauncher(2.0, minute_s=60.0)
    ui.trainSection.collapsed = False
    training.refresh()
    camera.take("15-train-empty")
    ui.trainDataEdit.text, ui.trainNameEdit.text = str(saveVolumes(folder / "t2")), "my-t2"
    ui.trainMinutesBox.value = 1
    training.refresh()
    camera.take("16-train-ready")
    ui.trainButton.click()
    camera.take("17-train-starting")
    camera.wait(lambda: ui.trainPictureLabel.visible and ui.trainBar.value > 40)
    camera.take("18-train-running")
    ui.trainButton.click()
    camera.wait(lambda: training.job is None)
    camera.take("19-train-cancelled")
    ui.trainButton.click()
    camera.wait(lambda: training.job is None)
    camera.take("20-trained")


if __name__ == "__main__":
    main(sys.argv[1:])
