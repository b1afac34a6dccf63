"""The section in which users train a target of their own: what it shows, and what a click does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from midiffusion.errors import Cancelled
from midiffusion.models.registry import CARD
from slicer.i18n import tr as _

from ..settings import ComputerSettings, TrainingInputs
from ..volume_files import existingFolder, volumeFiles
from .interfaces import Logic, Packages, Task
from .loss_curve import curveImage
from .model_chooser import ModelChooser
from .preview import pixmapOf
from .task_section import TaskSection
from .texts import durationText
from .training_folder import Curve, TrainingFolder

KINDS = ("mr", "ct")
PICTURE_PIXELS = 280
_LOOK_MS = 1000  # between two looks at the log
_SAVING_S = 65.0  # a little more than the worker allows itself to make a checkpoint
# Without a sign of life after which a training counts as hanging. A checkpoint takes its time in
# silence, and so do the images, which are read before the first step and after the last.
_SILENCE_S, _SILENCE_PER_VOLUME_S = 600.0, 60.0


class TrainSection(TaskSection):
    """Presenter of the training section: one run at a time, in the worker process.

    A run belongs to the computer, not to the scene: it goes on when the scene is closed, and its
    inputs are remembered in the settings.

    Args:
        ui: the widgets of Train.ui by name.
        logic: runs the worker.
        chooser: has the folder in which the model is made, and lists it.
        settings, packages: see parameters.py and collaborators.py.
        chooseFolder: asks the user for a folder, starting at the given one; empty if cancelled.
    """

    cancelText = _("Cancel training")
    cancelTip = _("Ends the training. The last checkpoint is kept.")

    def __init__(
        self,
        ui: Any,
        logic: Logic,
        chooser: ModelChooser,
        settings: ComputerSettings,
        packages: Packages,
        chooseFolder: Callable[[str], str],
    ) -> None:
        super().__init__(ui.trainButton, ui.trainStatusLabel, ui.trainHintLabel)
        self.ui, self.logic, self.chooser = ui, logic, chooser
        self.settings, self.packages, self.chooseFolder = settings, packages, chooseFolder
        self._folder: TrainingFolder | None = None  # of the run that the inputs name
        self._budget_s = 0.0
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._look)
        for label in (_("MR (brightness is relative)"), _("CT (Hounsfield units)")):
            ui.trainKindSelector.addItem(label)
        inputs = settings.training
        ui.trainDataEdit.text, ui.trainNameEdit.text = inputs.data, inputs.name
        ui.trainKindSelector.currentIndex = KINDS.index(inputs.kind)
        ui.trainMinutesBox.value = inputs.minutes
        ui.trainDataButton.connect("clicked(bool)", lambda _checked: self._onBrowse())
        for edit in (ui.trainDataEdit, ui.trainNameEdit):
            edit.connect("editingFinished()", self.refresh)
        ui.trainKindSelector.connect("currentIndexChanged(int)", lambda _index: self.refresh())
        ui.trainMinutesBox.connect("valueChanged(int)", lambda _value: self.refresh())
        ui.trainSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.refresh())
        self.say("")
        self.refresh()

    # what is shown

    @property
    def inputs(self) -> TrainingInputs:
        """What the widgets hold; the name as an id: lower case, without spaces."""
        ui = self.ui
        return TrainingInputs(
            ui.trainDataEdit.text.strip(),
            re.sub(r"\s+", "-", ui.trainNameEdit.text.strip().lower()),
            KINDS[max(ui.trainKindSelector.currentIndex, 0)],
            int(ui.trainMinutesBox.value),
        )

    def runText(self) -> str:
        return _("Resume training") if self._resumable else _("Train")

    def runTip(self) -> str:
        return _("Trains in a process of its own; Slicer stays usable, and so does Translate.")

    def note(self) -> str:
        return self._spentText(self.inputs) if self._resumable else ""

    def refresh(self) -> None:
        ui, running = self.ui, self.job is not None
        ui.trainInputs.enabled = not running
        ui.trainArea.visible = running
        if running:
            self.refreshButton()
        elif not ui.trainSection.collapsed:  # a folded section looks at no (network) folder
            self._findFolder()
            self.refreshButton()

    def _findFolder(self) -> None:
        """Remember the inputs, and look for the run that they name."""
        self.settings.training = inputs = self.inputs
        folder = self.settings.modelFolder
        place = Path(folder) / inputs.name if folder and inputs.name else None
        self._folder = None if place is None else TrainingFolder(place)

    @property
    def _resumable(self) -> bool:
        return self._folder is not None and self._folder.resumable

    @property
    def _curve(self) -> Curve:
        return Curve() if self._folder is None else self._folder.curve()

    def obstacle(self) -> str:
        inputs = self.inputs
        if self.packages.missing():
            return self.packages.offer()
        if not inputs.data:
            return _("Choose a folder with volumes of the target, one for each subject.")
        data = existingFolder(inputs.data)
        if data is None:
            return _("There is no folder '{folder}'.").format(folder=inputs.data)
        if not volumeFiles(data):
            return _(
                "'{folder}' holds no volumes (.nii, .nii.gz, .nrrd, .mha): choose another folder."
            ).format(folder=inputs.data)
        if not inputs.name:
            return _("Name the new model.")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", inputs.name):
            return _("A name is made of letters a to z, digits, '.', '_' and '-'.")
        if self._folder is not None and (self._folder.path.parent / CARD).is_file():
            return _(
                "The folder of further models is a model itself: choose the folder that holds it, "
                "under Advanced."
            )
        if self._resumable:
            if self._curve.spent_s >= 60 * inputs.minutes:
                return self._spentText(inputs) + " " + _("For more, raise the time.")
            return ""
        known = any(entry.id == inputs.name for entry in self.chooser.entries)
        if known or (self._folder is not None and self._folder.taken):
            return _("The name '{name}' is taken: choose another.").format(name=inputs.name)
        return ""

    def _spentText(self, inputs: TrainingInputs) -> str:
        return _("'{name}' has been trained for {spent} of {minutes} min.").format(
            name=inputs.name,
            spent=round(self._curve.spent_s / 60, 1),
            minutes=inputs.minutes,
        )

    # what a click does

    def _onBrowse(self) -> None:
        folder = self.chooseFolder(self.ui.trainDataEdit.text)
        if folder:
            self.ui.trainDataEdit.text = folder
            self.refresh()

    def begin(self) -> Task | None:
        if not self.chooser.folderForNew():
            self.say(_("Not trained: no folder was chosen for the model."))
            return None
        self._findFolder()
        if self._folder is None or self.obstacle():  # of the folder that was chosen just now
            return None
        inputs = self.inputs
        self._budget_s = 60.0 * inputs.minutes
        arguments = ["--target", inputs.name, "--data", str(existingFolder(inputs.data))]
        arguments += ["--out", str(self._folder.path), "--max-minutes", str(inputs.minutes)]
        arguments += ["--device", self.settings.device]
        arguments += ["--like", "ct"] if inputs.kind == "ct" else []
        arguments += ["--resume"] if self._resumable else []
        return self.logic.begin(
            "train",
            {"arguments": arguments},
            name="training",
            onEvent=self._heard,
            onDone=self._onDone,
            silence_s=self._readingSilence_s(),
            grace_s=_SAVING_S,
        )

    def started(self) -> None:
        self.ui.trainPictureLabel.visible = False
        self._timer.start(_LOOK_MS)
        self._look()

    # what the run says

    def _look(self) -> None:
        """Shows what the log says."""
        ui, curve = self.ui, self._curve
        ui.trainBar.value = round(100 * min(curve.spent_s / self._budget_s, 1.0))
        ui.trainCurveLabel.visible = bool(curve.loss)
        if not curve.loss:
            ui.trainProgressLabel.text = _("Reading the images...")
            return
        image = curveImage(curve, self._budget_s, PICTURE_PIXELS)
        ui.trainCurveLabel.setPixmap(pixmapOf(image, PICTURE_PIXELS))
        parts = [
            _("{left} left").format(left=durationText(max(self._budget_s - curve.spent_s, 0.0))),
            _("loss {loss:.3f}").format(loss=curve.loss[-1]),
        ]
        if curve.heldBackLoss:
            text = _("{loss:.3f} on images held back")
            parts.append(text.format(loss=curve.heldBackLoss[-1]))
        ui.trainProgressLabel.text = ", ".join(parts)

    def _readingSilence_s(self) -> float:
        return _SILENCE_S + _SILENCE_PER_VOLUME_S * len(volumeFiles(self.inputs.data))

    def _heard(self, kind: str, event: dict[str, Any]) -> None:
        if self.job is None:
            return
        if kind == "step":
            self.job.silence_s = _SILENCE_S
        elif kind == "checkpoint":  # it may be the last
            self.job.silence_s = self._readingSilence_s()
        elif kind == "picture":
            pair = self.job.takeFile(event["file"])
            image = pair.transpose(1, 0, 2).reshape(pair.shape[1], -1)  # side by side
            self.ui.trainPictureLabel.setPixmap(pixmapOf(image, PICTURE_PIXELS))
            self.ui.trainPictureLabel.visible = True

    def _onDone(self, job: Task) -> None:
        self.job = None
        self._timer.stop()
        if self._folder is not None:
            self._folder.tidy()
        self.chooser.list()
        self.say(self._ending(job))
        self.refresh()

    def _ending(self, job: Task) -> str:
        """How the run ended, and what to do."""
        kept = self._resumable
        if job.error is None:
            return _(
                "Trained in {duration}: '{name}' can be chosen as target now. State in its card "
                "under which terms it may be used."
            ).format(duration=durationText(job.elapsed_s), name=self.inputs.name)
        if isinstance(job.error, Cancelled):
            if kept:
                return _(
                    "Cancelled. The last checkpoint is kept: Resume goes on from there, and the "
                    "model can be tried as it is."
                )
            return _("Cancelled before there was anything to keep. Click Train to begin again.")
        return " ".join([str(job.error), _("The last checkpoint is kept.") if kept else ""]).strip()
