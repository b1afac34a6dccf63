"""The translation: what each state shows, and what a click does.

`TranslatePanel` knows the widgets of the .ui file by name and everything else through the
protocols of interfaces.py. The life cycle of a Slicer module (scene, parameter node, reload) is
the widget class's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from midiffusion.errors import Cancelled, MIDiffusionError
from midiffusion.models.card import ModelCard
from slicer.i18n import tr as _

from ..settings import DEVICES, ComputerSettings, Quality, TranslateParameters, optionsOf
from . import texts
from .batch_section import BatchSection
from .compare_section import CompareSection
from .details import Details
from .device_memory import DeviceMemory
from .download_section import DownloadSection
from .durations import Durations, RunClock, Work
from .interfaces import Job, Logic, Models, Packages
from .model_chooser import ModelChooser
from .preview import pixmapOf
from .side_by_side import SideBySide
from .task_section import TaskSection

PREVIEW_PIXELS = 160


class TranslatePanel(TaskSection):
    """Presenter of the translation, and owner of the sections beside it.

    Args:
        ui: the widgets by name (slicer.util.childWidgetVariables).
        logic, models, settings, packages: see interfaces.py and settings.py.
        chooseFolder: asks the user for a folder, starting at the given one; empty if cancelled.
        show: brings a result (source node, new node) into the views.
        loadSample: loads the sample head and returns its node; None if it can't.
    """

    cancelTip = _("Ends the translation. Nothing is added to the scene.")
    failure = _("The translation could not start ({error}). The log has the details.")

    def __init__(
        self,
        ui: Any,
        logic: Logic,
        models: Models,
        settings: ComputerSettings,
        packages: Packages,
        *,
        chooseFolder: Callable[[str], str],
        show: Callable[[Any, Any], None],
        loadSample: Callable[[], Any] = lambda: None,
    ) -> None:
        super().__init__(ui.translateButton, ui.statusLabel, ui.hintLabel)
        self.ui, self.logic, self.settings, self.packages = ui, logic, settings, packages
        self.show, self.loadSample = show, loadSample
        self.parameters: TranslateParameters | None = None
        self.durations = Durations(settings)
        self._measured: tuple[ModelCard, str, RunClock] | None = None  # the run under way
        self._source: Any = None
        self.chooser = ModelChooser(ui, models, settings, chooseFolder, self._onModelsChanged)
        for device in DEVICES:
            ui.deviceSelector.addItem(texts.deviceLabel(device))
        ui.deviceSelector.currentIndex = DEVICES.index(settings.device)
        ui.installButton.connect("clicked(bool)", lambda _checked: self.onInstall())
        ui.sampleButton.connect("clicked(bool)", lambda _checked: self.onLoadSample())
        ui.deviceSelector.connect("currentIndexChanged(int)", self.onDeviceChosen)
        ui.previewCheckBox.connect("toggled(bool)", lambda _on: self._showPreview(None))
        self.details = Details(ui)
        self.sideBySide = SideBySide(ui)
        self.comparison = CompareSection(ui, logic)
        self.deviceMemory = DeviceMemory(ui, logic, settings, packages)
        self.download = DownloadSection(ui, logic, self.chooser, self._tell, self.refresh)
        self.batch = BatchSection(ui, logic, self._options, self._busy, chooseFolder, self._shown)
        self.say("")
        self._warn([])
        self.refresh()

    def setParameters(self, parameters: TranslateParameters | None) -> None:
        """The inputs to show and to run with; None between scenes."""
        self.parameters = parameters
        self.chooser.setParameters(parameters)
        self.comparison.setParameters(parameters)
        self.refresh()

    def onDeviceChosen(self, index: int) -> None:
        self.settings.device = DEVICES[index]
        self.deviceMemory.look()
        self.refresh()

    def onLoadSample(self) -> None:
        node = self.loadSample()
        if node is None:
            self.say(_("The sample head could not be loaded. The log has the details."))
        elif self.parameters is not None:
            self.parameters.sourceVolume = node

    def _onModelsChanged(self, sentence: str | None) -> None:
        if sentence is not None:
            self.say(sentence)
        self.refresh()

    def _tell(self, sentence: str) -> None:
        self.say(sentence)

    # what is shown

    def runText(self) -> str:
        return _("Translate")

    def runTip(self) -> str:
        return _("Computes a synthetic volume in a process of its own; Slicer stays usable.")

    def obstacle(self) -> str:
        parameters = self.parameters
        if parameters is None:
            return _("There is no scene.")
        source = parameters.sourceVolume
        if self.batch.job is not None:
            return _("Several volumes are being translated: wait for them, or cancel it below.")
        if obstacle := self._unready():
            return obstacle
        if source is None:
            return _("Select the volume to translate.")
        if source.GetClassName() != "vtkMRMLScalarVolumeNode":
            return _("'{name}' is not an image: select a scalar volume.").format(
                name=source.GetName()
            )
        if source.GetImageData() is None:
            return _("'{name}' holds no image yet. Select another volume.").format(
                name=source.GetName()
            )
        if parameters.outputVolume is source:
            return _("The output can't be the source itself. Choose another output volume.")
        return ""

    def _unready(self) -> str:
        """Why nothing at all can be translated; empty if something can."""
        if self.download.job is not None:
            return _("A model is being downloaded: wait for it, or cancel it under Advanced.")
        if obstacle := self.chooser.obstacle() or self.packages.offer():
            return obstacle
        sampling = self.parameters is not None and self.parameters.quality is Quality.sample
        if sampling and not self.chooser.drawsSamples:
            return _("This target draws no samples. Choose another quality under Advanced.")
        return ""

    def _busy(self) -> str:
        """Why no batch can start; empty if one can."""
        if self.job is not None:
            return _("A translation is running: wait for it, or cancel it.")
        return self._unready()

    def refresh(self) -> None:
        """Brings every widget in line with the parameters and the state."""
        self.chooser.refresh()
        self.comparison.refresh()
        self.batch.list()
        self._shown()

    def _shown(self) -> None:
        ui, running = self.ui, self.job is not None
        parameters = self.parameters
        ui.estimateLabel.text = self._estimateText()
        ui.installButton.visible = bool(self.packages.missing())
        ui.installButton.enabled = not running
        for section in (ui.inputsSection, ui.outputsSection, ui.advancedSection):
            section.enabled = not running and self.batch.job is None
        sampling = parameters is not None and parameters.quality is Quality.sample
        for widget in (ui.stepsSlider, ui.samplesBox, ui.seedBox):
            widget.enabled = sampling
        ui.errorMapCheckBox.enabled = parameters is None or parameters.quality is not Quality.fast
        ui.sampleButton.visible = ui.sourceSelector.nodeCount() == 0
        ui.runArea.visible = running
        self.refreshButton()

    def estimate(self) -> dict[str, float] | None:
        """Seconds that a run with these inputs will take, as `Durations.estimate` returns them;
        None as long as an input is missing."""
        card, parameters = self.chooser.card, self.parameters
        source = None if parameters is None else parameters.sourceVolume
        if card is None or parameters is None or source is None or not source.GetImageData():
            return None
        return self.durations.estimate(card, _work(source, card, parameters), self.settings.device)

    def _estimateText(self) -> str:
        estimated = self.estimate()
        return "-" if estimated is None else texts.estimateText(estimated)

    def _warn(self, warnings: list[str]) -> None:
        self.ui.warningLabel.text = texts.warningText(warnings)
        self.ui.warningLabel.visible = bool(warnings)

    # what a click does

    def onInstall(self) -> None:
        self.say(_("Installing. This can take some minutes."))
        try:
            self.packages.install()
        except MIDiffusionError as error:
            self.say(str(error))
        else:
            self.say(_("Everything needed is installed."))
        self.refresh()

    def _options(self) -> dict[str, Any]:
        """The inputs as logic.start takes them."""
        assert self.parameters is not None
        return {
            **optionsOf(self.parameters),
            "model": self.parameters.model,
            "modelFolder": self.settings.modelFolder or None,
            "device": self.settings.device,
            "errorMap": self.parameters.errorMap,
        }

    def begin(self) -> Job | None:
        card, parameters = self.chooser.card, self.parameters
        assert card is not None and parameters is not None  # else there is an obstacle
        self.details.show(())
        self._warn([])
        self._source = parameters.sourceVolume
        clock = RunClock(_work(self._source, card, parameters))
        self._measured = (card, self.settings.device, clock)
        return self.logic.start(
            self._source,
            **self._options(),
            output=parameters.outputVolume,
            onProgress=self.onProgress,
            onDone=self.onDone,
        )

    def started(self) -> None:
        self.ui.progressBar.value = 0
        self.ui.progressLabel.text = _("Starting...")
        self.ui.deviceLabel.text = ""
        self._showPreview(None)

    def endAll(self, sentence: str = "") -> None:
        """Ends everything that runs, at once: the scene or the module goes away."""
        self.sideBySide.forget()
        for part in (self.comparison, self.batch, self.deviceMemory):
            part.abandon()
        if self.job is not None:
            self.abandon()
            self.say(sentence or self.ui.statusLabel.text)

    # what the job says

    def onProgress(self, progress: Any) -> None:
        if self._measured is not None:
            self._measured[2].tick(progress.fraction)
        ui = self.ui
        ui.progressBar.value = round(100 * progress.fraction)
        ui.progressLabel.text = texts.progressText(progress)
        ui.deviceLabel.text = texts.deviceText(progress)
        if progress.preview is not None:
            self._showPreview(progress.preview)
        if progress.fraction >= 1.0:
            ui.progressLabel.text = _("Finishing the result...")

    def onDone(self, job: Job) -> None:
        self.job = None
        self._showPreview(None)
        try:
            if job.error is None:
                self._keep(job)
            elif not isinstance(job.error, Cancelled):
                self.details.show(job.log)
            sentence = texts.endingText(job)
        except Exception as error:
            logging.exception("MIDiffusion: the result could not be shown")
            sentence = _("The result could not be shown ({error}).").format(error=error)
        self._source = self._measured = None
        self.say(sentence)
        slicer.util.showStatusMessage(sentence, 5000)
        self.refresh()

    def _keep(self, job: Job) -> None:
        self._warn(job.warnings)
        self.show(self._source, job.node)
        self.sideBySide.offer(self._source, job.node)
        self.comparison.offer(job.node)
        if self._measured is not None:
            self.durations.learn(*self._measured, job.elapsed_s, job.provenance["seconds"])

    def _showPreview(self, image: np.ndarray | None) -> None:
        label = self.ui.previewLabel
        if image is None or not self.ui.previewCheckBox.checked:
            label.clear()
            label.visible = False
        else:
            label.setPixmap(pixmapOf(image, PREVIEW_PIXELS))
            label.visible = True


def _work(volume: Any, card: ModelCard, parameters: TranslateParameters) -> Work:
    """What the inputs ask for."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    axes = [[matrix.GetElement(row, column) for column in range(3)] for row in range(3)]
    dimensions = volume.GetImageData().GetDimensions()
    evaluations = 1 if parameters.quality is Quality.fast else 4
    if parameters.quality is Quality.sample:
        evaluations += parameters.steps * parameters.samples
    return Work.of(np.array(axes), dimensions, card, evaluations)
