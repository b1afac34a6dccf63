"""The panel's behaviour: what each state shows, and what a click does.

`TranslatePanel` knows the widgets of the .ui file by name and everything else through the
protocols of collaborators.py. The life cycle of a Slicer module (scene, parameter node, reload) is
the widget class's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import vtk
from midiffusion.card import ModelCard
from midiffusion.errors import MIDiffusionError
from slicer.i18n import tr as _

from . import wording
from .agreementline import AgreementLine
from .batchsection import BatchSection
from .collaborators import Job, Logic, Models, Packages
from .comparisonsection import ComparisonSection
from .devicememory import DeviceMemory
from .downloadline import DownloadLine
from .durations import Durations, RunClock, Work
from .modelchooser import ModelChooser
from .parameters import DEVICES, ComputerSettings, Sampler, TranslateParameters
from .preview import pixmapOf
from .sidebyside import SideBySide

PREVIEW_PIXELS = 160


class TranslatePanel:
    """Presenter of the translation panel.

    Args:
        ui: the widgets by name (slicer.util.childWidgetVariables).
        logic, models, settings, packages: see collaborators.py and parameters.py.
        chooseFolder: asks the user for a folder, starting at the given one; empty if cancelled.
        show: brings a result (source node, new node) into the views.
    """

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
    ) -> None:
        self.ui, self.logic, self.settings, self.packages = ui, logic, settings, packages
        self.show = show
        self.parameters: TranslateParameters | None = None
        self.job: Job | None = None
        self.durations = Durations(settings)
        self._measured: tuple[ModelCard, str, RunClock] | None = None  # the run under way
        self._source: Any = None
        self.chooser = ModelChooser(ui, models, settings, chooseFolder, self._onModelsChanged)
        for device in DEVICES:
            ui.deviceSelector.addItem(wording.deviceLabel(device))
        ui.deviceSelector.currentIndex = DEVICES.index(settings.device)
        ui.translateButton.connect("clicked(bool)", lambda _checked: self.onTranslate())
        ui.installButton.connect("clicked(bool)", lambda _checked: self.onInstall())
        ui.deviceSelector.connect("currentIndexChanged(int)", self.onDeviceChosen)
        ui.previewCheckBox.connect("toggled(bool)", lambda _on: self._showPreview(None))
        self.agreement = AgreementLine(ui)
        self.sideBySide = SideBySide(ui)
        self.comparison = ComparisonSection(ui, logic)
        self.deviceMemory = DeviceMemory(ui, logic, settings, packages)
        self.download = DownloadLine(ui, logic, self.chooser, self.say, self.refresh)
        self.batch = BatchSection(
            ui, logic, self._options, self._busy, chooseFolder, self._refreshButton
        )
        self.say("")
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

    def _onModelsChanged(self, sentence: str | None) -> None:
        if sentence is not None:
            self.say(sentence)
        self.refresh()

    # what is shown

    def obstacle(self) -> str:
        """Why a translation can't start, as a sentence that says what to do; empty if it can."""
        parameters = self.parameters
        if parameters is None:
            return _("There is no scene.")
        source = parameters.sourceVolume
        if self.batch.batch is not None:
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
        return self.chooser.obstacle() or self.packages.offer()

    def _busy(self) -> str:
        """Why no batch can start; empty if one can."""
        if self.job is not None:
            return _("A translation is running: wait for it, or cancel it.")
        return self._unready()

    def refresh(self) -> None:
        """Brings every widget in line with the parameters and the state."""
        ui, running = self.ui, self.job is not None
        self.chooser.refresh()
        ui.estimateLabel.text = self._estimate()
        ui.installButton.visible = bool(self.packages.missing())
        ui.installButton.enabled = not running
        for section in (ui.inputsSection, ui.advancedSection):
            section.enabled = not running
        ui.runArea.visible = running
        self.comparison.refresh()
        self.batch.list()
        self._refreshButton()

    def _refreshButton(self) -> None:
        ui, button = self.ui, self.ui.translateButton
        obstacle = "" if self.job is not None else self.obstacle()
        ui.hintLabel.text = obstacle
        ui.hintLabel.visible = bool(obstacle)
        if self.job is not None:
            cancelling = self.job.state == "cancelling"
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("Ends the translation. Nothing is added to the scene.")
        else:
            button.text = _("Translate")
            button.enabled = not obstacle
            button.toolTip = obstacle or _(
                "Computes a synthetic volume in a process of its own; Slicer stays usable."
            )

    def foretold(self) -> dict[str, float] | None:
        """Seconds that a run with these inputs will take, as `Durations.foretold` has them; None
        as long as an input is missing."""
        card, parameters = self.chooser.card, self.parameters
        source = None if parameters is None else parameters.sourceVolume
        if card is None or parameters is None or source is None or not source.GetImageData():
            return None
        work = _work(source, card, parameters)
        return self.durations.foretold(card, work, self.settings.device)

    def _estimate(self) -> str:
        foretold = self.foretold()
        return "-" if foretold is None else wording.estimateText(foretold)

    def say(self, sentence: str) -> None:
        """The line that says what happened and what to do."""
        self.ui.statusLabel.text = sentence
        self.ui.statusLabel.visible = bool(sentence)

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

    def onTranslate(self) -> None:
        """The one button: Translate when idle, Cancel when running."""
        if self.job is not None:
            self.job.cancel()
            self._refreshButton()
            return
        card, parameters = self.chooser.card, self.parameters
        if self.obstacle() or card is None or parameters is None:
            self.refresh()
        else:
            self._start(card, parameters)

    def _options(self) -> dict[str, Any]:
        """What the inputs say of how to translate, as logic.start takes it."""
        parameters = self.parameters
        assert parameters is not None
        sampler = parameters.sampler
        return {
            "model": parameters.model,
            "steps": parameters.steps,
            "seed": parameters.seed,
            "samples": parameters.samples,
            "device": self.settings.device,
            "modelFolder": self.settings.modelFolder or None,
            "sampler": None if sampler is Sampler.default else sampler.value,
        }

    def _start(self, card: ModelCard, parameters: TranslateParameters) -> None:
        self.say("")
        self.agreement.forget()
        self._source = parameters.sourceVolume
        clock = RunClock(_work(self._source, card, parameters))
        self._measured = (card, self.settings.device, clock)
        try:
            job = self.logic.start(
                self._source,
                **self._options(),
                output=parameters.outputVolume,
                onProgress=self.onProgress,
                onDone=self.onDone,
            )
        except MIDiffusionError as error:
            self.say(str(error))
            return
        except Exception as error:
            logging.exception("MIDiffusion: the translation could not start")
            text = _("The translation could not start ({error}). The log has the details.")
            self.say(text.format(error=error))
            return
        self.job = job
        self.ui.progressBar.value = 0
        self.ui.progressLabel.text = _("Starting...")
        self.ui.deviceLabel.text = ""
        self._showPreview(None)
        self.refresh()
        if job.finished:  # it ended, and said so, before it was ours
            self.onDone(job)

    def abandon(self, sentence: str = "") -> None:
        """Ends what runs, at once: the scene or the module goes away."""
        self.agreement.forget()
        self.sideBySide.forget()
        for part in (self.comparison, self.batch, self.deviceMemory):
            part.abandon()
        if self.job is not None:
            self.job.abandon()  # which calls onDone
            self.say(sentence or self.ui.statusLabel.text)

    # what the job says

    def onProgress(self, progress: Any) -> None:
        if self._measured is not None:
            self._measured[2].tick(progress.fraction)
        ui = self.ui
        ui.progressBar.value = round(100 * progress.fraction)
        ui.progressLabel.text = wording.progressText(progress)
        ui.deviceLabel.text = wording.deviceText(progress)
        if progress.preview is not None:
            self._showPreview(progress.preview)
        if progress.fraction >= 1.0:
            ui.progressLabel.text = _("Finishing the result...")

    def onDone(self, job: Job) -> None:
        if job is not self.job:
            return
        self.job = None
        self._showPreview(None)
        try:
            if job.error is None:
                self._keep(job)
            sentence = wording.endingText(job)
        except Exception as error:
            logging.exception("MIDiffusion: the result could not be shown")
            sentence = _("The result could not be shown ({error}).").format(error=error)
        self._source = None
        self.say(sentence)
        self.refresh()

    def _keep(self, job: Job) -> None:
        self.show(self._source, job.node)
        self.sideBySide.offer(self._source, job.node)
        self.agreement.show(job)
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
    return Work.of(np.array(axes), dimensions, card, parameters.steps * parameters.samples)
