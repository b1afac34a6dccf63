"""The panel's behaviour: what each state shows, and what a click does.

`TranslatePanel` knows the widgets of the .ui file by name and everything else through the
protocols below, so that tests can put any of it in its place. The life cycle of a Slicer module
(scene, parameter node, reload) is the widget class's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import vtk
from midiffusion.card import ModelCard
from midiffusion.errors import Cancelled, MIDiffusionError
from midiffusion.registry import ModelEntry
from slicer.i18n import tr as _

from . import wording
from .output import moveInto
from .parameters import DEVICES, ComputerSettings, Sampler, TranslateParameters
from .preview import pixmapOf
from .runclock import RunClock

POLL_MS = 40
PREVIEW_PIXELS = 160


class Job(Protocol):
    """A translation under way (job.TranslationJob)."""

    state: str
    node: Any
    uncertaintyNode: Any
    error: MIDiffusionError | None
    warnings: list[str]
    elapsed_s: float

    @property
    def finished(self) -> bool: ...

    def poll(self) -> str: ...

    def cancel(self) -> None: ...

    def abandon(self) -> None: ...


class Logic(Protocol):
    """Starts translations (MIDiffusionTranslateLogic)."""

    def start(self, sourceNode: Any, **arguments: Any) -> Job: ...


class Models(Protocol):
    """Lists models (midiffusion.registry)."""

    def available(self, model_folder: str | None = None) -> Sequence[ModelEntry]: ...


class Packages(Protocol):
    """Says what is not installed, and installs it (install.Dependencies)."""

    def missing(self) -> list[str]: ...

    def offer(self) -> str: ...

    def install(self) -> None: ...


class Timer(Protocol):
    """A running QTimer."""

    def start(self, milliseconds: int) -> None: ...

    def stop(self) -> None: ...


class TranslatePanel:
    """Presenter of the translation panel.

    Args:
        ui: the widgets by name (slicer.util.childWidgetVariables).
        logic, models, settings, packages: see the protocols.
        timer: makes a timer that calls the given function.
        confirm: asks the user a yes/no question.
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
        timer: Callable[[Callable[[], None]], Timer],
        confirm: Callable[[str], bool],
        chooseFolder: Callable[[str], str],
        show: Callable[[Any, Any], None],
    ) -> None:
        self.ui, self.logic, self.models = ui, logic, models
        self.settings, self.packages = settings, packages
        self.confirm, self.chooseFolder, self.show = confirm, chooseFolder, show
        self.parameters: TranslateParameters | None = None
        self.entries: list[ModelEntry] = []
        self.job: Job | None = None
        self._clock = RunClock(0)
        self._speedKey = ("", "")
        self._source: Any = None
        self._target: Any = None
        self._filling = False
        self._timer = timer(self._poll)
        self._connect()
        for device in DEVICES:
            ui.deviceSelector.addItem(_deviceLabel(device))
        ui.deviceSelector.currentIndex = DEVICES.index(settings.device)
        ui.modelFolderEdit.text = settings.modelFolder
        self.listModels()

    def _connect(self) -> None:
        ui = self.ui
        ui.translateButton.connect("clicked(bool)", lambda _checked: self.onTranslate())
        ui.installButton.connect("clicked(bool)", lambda _checked: self.onInstall())
        ui.browseButton.connect("clicked(bool)", lambda _checked: self.onBrowse())
        ui.clearFolderButton.connect("clicked(bool)", lambda _checked: self.setModelFolder(""))
        ui.modelFolderEdit.connect(
            "editingFinished()", lambda: self.setModelFolder(ui.modelFolderEdit.text)
        )
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.deviceSelector.connect("currentIndexChanged(int)", self.onDeviceChosen)
        ui.previewCheckBox.connect("toggled(bool)", lambda _on: self._showPreview(None))

    # models

    @property
    def entry(self) -> ModelEntry | None:
        """The model that the parameters name, if it is among those found."""
        wanted = self.parameters.model if self.parameters is not None else ""
        return next((entry for entry in self.entries if entry.id == wanted), None)

    def listModels(self) -> None:
        """Looks for models again and refills the selector."""
        self.entries = list(self.models.available(self.settings.modelFolder or None))
        self._filling = True
        self.ui.modelSelector.clear()
        for entry in self.entries:
            title = entry.id if entry.card is None else entry.card.title
            self.ui.modelSelector.addItem(
                title if entry.problem is None else _("{title} (not usable)").format(title=title)
            )
        self._filling = False
        self.refresh()

    def setParameters(self, parameters: TranslateParameters | None) -> None:
        """The inputs to show and to run with; None between scenes."""
        self.parameters = parameters
        if parameters is not None and not parameters.model and self.entries:
            usable = [entry for entry in self.entries if entry.problem is None]
            self._chooseModel((usable or self.entries)[0])
        self.refresh()

    def onModelChosen(self, index: int) -> None:
        if self._filling or self.parameters is None or not 0 <= index < len(self.entries):
            return
        if self.entries[index].id != self.parameters.model:
            self._chooseModel(self.entries[index])
            self.refresh()

    def _chooseModel(self, entry: ModelEntry) -> None:
        assert self.parameters is not None
        self.parameters.model = entry.id
        if entry.card is not None:
            self.parameters.steps = min(max(entry.card.default_steps, 1), 100)

    def onDeviceChosen(self, index: int) -> None:
        self.settings.device = DEVICES[index]
        self.refresh()

    def onBrowse(self) -> None:
        folder = self.chooseFolder(self.settings.modelFolder)
        if folder:
            self.setModelFolder(folder)

    def setModelFolder(self, folder: str) -> None:
        folder = folder.strip()
        self.ui.modelFolderEdit.text = folder
        if folder != self.settings.modelFolder:
            self.settings.modelFolder = folder
            self.listModels()

    # what is shown

    def obstacle(self) -> str:
        """Why a translation can't start, as a sentence that says what to do; empty if it can."""
        source = self.parameters.sourceVolume if self.parameters is not None else None
        if not self.entries:
            return _("No model was found. Choose a folder of models under Advanced.")
        if self.entry is None:
            return _("The model '{id}' is not on this computer. Choose another target.").format(
                id=self.parameters.model if self.parameters is not None else ""
            )
        if self.entry.problem is not None:
            return self.entry.problem
        if self.packages.missing():
            return self.packages.offer()
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
        if self.parameters is not None and self.parameters.outputVolume is source:
            return _("The output can't be the source itself. Choose another output volume.")
        return ""

    def refresh(self) -> None:
        """Brings every widget in line with the parameters and the state."""
        ui, entry = self.ui, self.entry
        running = self.job is not None
        self._filling = True
        ui.modelSelector.currentIndex = -1 if entry is None else self.entries.index(entry)
        self._filling = False
        card = None if entry is None else entry.card
        ui.cardLabel.text = "" if card is None else wording.cardText(card)
        details = "" if card is None else wording.cardDetails(card)
        ui.cardLabel.toolTip = details
        ui.modelSelector.toolTip = details or _("What to translate the source into.")
        ui.estimateLabel.text = self._estimate(card)
        missing = bool(self.packages.missing())
        ui.installButton.visible = missing
        ui.installButton.enabled = not running
        for section in (ui.inputsSection, ui.advancedSection):
            section.enabled = not running
        ui.runArea.visible = running
        self._refreshButton()

    def _refreshButton(self) -> None:
        button = self.ui.translateButton
        if self.job is not None:
            cancelling = self.job.state == "cancelling"
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("Ends the translation. Nothing is added to the scene.")
            return
        obstacle = self.obstacle()
        button.text = _("Translate")
        button.enabled = not obstacle
        button.toolTip = obstacle or _(
            "Computes a synthetic volume in a process of its own; Slicer stays usable."
        )
        self.ui.hintLabel.text = obstacle
        self.ui.hintLabel.visible = bool(obstacle)

    def _estimate(self, card: ModelCard | None) -> str:
        parameters = self.parameters
        source = parameters.sourceVolume if parameters is not None else None
        if card is None or parameters is None or source is None or not source.GetImageData():
            return "-"
        return wording.estimateText(
            card,
            _slices(source, card),
            parameters.steps,
            parameters.samples,
            self.settings.speed(card.id, self.settings.device),
        )

    def say(self, sentence: str) -> None:
        """The line that says what happened and what to do."""
        self.ui.statusLabel.text = sentence
        self.ui.statusLabel.visible = bool(sentence)

    # running

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
            self._poll()
            return
        entry, parameters = self.entry, self.parameters
        if self.obstacle() or entry is None or entry.card is None or parameters is None:
            self.refresh()
            return
        if not self._licenceAccepted(entry.card):
            self.say(
                _("Not translated: the licence of '{title}' was not accepted.").format(
                    title=entry.card.title
                )
            )
            return
        sampler = parameters.sampler
        self.say("")
        self._clock = RunClock(
            _slices(parameters.sourceVolume, entry.card) * parameters.steps * parameters.samples
        )
        self._source, self._target = parameters.sourceVolume, parameters.outputVolume
        try:
            job = self.logic.start(
                parameters.sourceVolume,
                model=str(entry.folder),
                steps=parameters.steps,
                seed=parameters.seed,
                samples=parameters.samples,
                device=self.settings.device,
                modelFolder=self.settings.modelFolder or None,
                sampler=None if sampler is Sampler.default else sampler.value,
                onProgress=self.onProgress,
            )
        except MIDiffusionError as error:
            self.say(str(error))
            return
        self.job = job
        self._speedKey = (entry.card.id, self.settings.device)
        ui = self.ui
        ui.progressBar.value = 0
        ui.progressLabel.text = _("Starting...")
        ui.deviceLabel.text = ""
        self._showPreview(None)
        self.refresh()
        self._timer.start(POLL_MS)
        self._poll()

    def _licenceAccepted(self, card: ModelCard) -> bool:
        if not card.non_commercial or self.settings.hasAccepted(card.id, card.weights_licence):
            return True
        if not self.confirm(wording.licenceQuestion(card)):
            return False
        self.settings.accept(card.id, card.weights_licence)
        return True

    def onProgress(self, progress: Any) -> None:
        self._clock.tick(progress.fraction)
        ui = self.ui
        ui.progressBar.value = round(100 * progress.fraction)
        ui.progressLabel.text = wording.progressText(progress)
        ui.deviceLabel.text = wording.deviceText(progress)
        if progress.preview is not None:
            self._showPreview(progress.preview)

    def _showPreview(self, image: np.ndarray | None) -> None:
        label = self.ui.previewLabel
        if image is None or not self.ui.previewCheckBox.checked:
            label.clear()
            label.visible = False
        else:
            label.setPixmap(pixmapOf(image, PREVIEW_PIXELS))
            label.visible = True

    def _poll(self) -> None:
        job = self.job
        if job is None:
            return
        job.poll()
        if job.finished:
            self._ended(job)
            return
        if job.state == "loading":
            self.ui.progressLabel.text = _("Adding the result to the scene...")
        self._refreshButton()

    def _ended(self, job: Job) -> None:
        self._timer.stop()
        self.job = None
        self._showPreview(None)
        if job.error is None:
            speed = self._clock.speed()
            if speed is not None:
                self.settings.setSpeed(*self._speedKey, speed)
            job.node = moveInto(job.node, self._target)
            self.show(self._source, job.node)
        self._source = self._target = None
        self.say(_ending(job))
        self.refresh()

    def abandon(self, sentence: str = "") -> None:
        """Ends what runs, at once: the scene or the module goes away."""
        job = self.job
        if job is None:
            return
        job.abandon()
        self._ended(job)
        if sentence:
            self.say(sentence)


def _ending(job: Job) -> str:
    """What has happened, and what to do."""
    if isinstance(job.error, Cancelled):
        return _("Cancelled. Nothing was added to the scene.")
    if job.error is not None:
        logging.error("MIDiffusion: %s", job.error)
        return str(job.error)
    sentences = [
        _("Done in {duration}: '{name}'.").format(
            duration=wording.durationText(job.elapsed_s), name=job.node.GetName()
        )
    ]
    if job.uncertaintyNode is not None:
        sentences.append(
            _("Standard deviation: '{name}'.").format(name=job.uncertaintyNode.GetName())
        )
    sentences.append(_("The image is synthetic: research use only, not for diagnosis."))
    return " ".join([*sentences, *job.warnings])


def _slices(volume: Any, card: ModelCard) -> int:
    """How many slices of the volume node the model works through."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    axes = [[matrix.GetElement(row, column) for column in range(3)] for row in range(3)]
    dimensions = volume.GetImageData().GetDimensions()
    return wording.sliceCount(np.array(axes), dimensions, card.orientation)


def _deviceLabel(device: str) -> str:
    return {
        "auto": _("Automatic (the GPU if there is one)"),
        "cpu": _("Processor (CPU)"),
        "cuda": _("NVIDIA GPU (CUDA)"),
        "mps": _("Apple GPU (MPS)"),
    }[device]
