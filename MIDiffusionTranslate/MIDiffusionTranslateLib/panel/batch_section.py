"""The section that translates many volumes: what it shows, and what a click does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..batch import Batch
from ..volume_files import existingFolder, volumeFiles
from . import texts
from .interfaces import Logic
from .task_section import TaskSection


class BatchSection(TaskSection):
    """Presenter of the batch: the panel's inputs for each of the ticked volumes.

    Args:
        ui: the widgets by name.
        logic: runs the translations.
        options: the panel's model, steps and so on, as logic.start takes them.
        blocked: why no translation can start at present; empty if one can.
        chooseFolder: asks the user for a folder, starting at the given one; empty if cancelled.
        changed: called when a batch begins or ends.
    """

    cancelTip = _("Ends the batch. Finished results are kept.")
    failure = _("The batch could not start ({error}). The log has the details.")

    def __init__(
        self,
        ui: Any,
        logic: Logic,
        options: Callable[[], dict[str, Any]],
        blocked: Callable[[], str],
        chooseFolder: Callable[[str], str],
        changed: Callable[[], object],
    ) -> None:
        super().__init__(ui.batchButton, ui.batchStatusLabel, ui.batchHintLabel)
        self.ui, self.logic = ui, logic
        self._options, self._blocked = options, blocked
        self._chooseFolder, self._changed = chooseFolder, changed
        self._observed: list[tuple[str, int]] = []  # listed nodes by ID, for their names
        # IDs of nodes, or paths, with their names. Not nodes: their images would outlive the scene.
        self._listed: list[tuple[str, str]] = []
        self._unticked: set[str] = set()
        self._rows: list[int] = []  # in which the volumes of the batch are listed
        for label in (_("Volumes of the scene"), _("Files of a folder")):
            ui.batchFromSelector.addItem(label)
        ui.batchFromSelector.connect("currentIndexChanged(int)", lambda _index: self.list())
        ui.batchSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.list())
        for edit, button in (
            (ui.batchFolderEdit, ui.batchFolderButton),
            (ui.batchOutputEdit, ui.batchOutputButton),
        ):
            edit.connect("editingFinished()", self.list)
            button.connect("clicked(bool)", lambda _checked, edit=edit: self._onBrowse(edit))
        ui.batchList.connect("itemChanged(QListWidgetItem*)", self._onTicked)
        self.say("")
        self.refresh()

    # what is shown

    @property
    def _ofFolder(self) -> bool:
        return bool(self.ui.batchFromSelector.currentIndex == 1)

    def list(self) -> None:
        """Lists the volumes while the section is open. While a batch runs its list stays."""
        if self.job is not None or self.ui.batchSection.collapsed:
            return
        if self._ofFolder:
            files = volumeFiles(self.ui.batchFolderEdit.text.strip())
            listed = [(str(file), file.name) for file in files]
        else:
            listed = [(node.GetID(), node.GetName()) for node in _imagesOfScene()]
        if listed != self._listed:  # else the states of the last batch stay
            self._listed = listed
            self._fill()
            self._observeNames()
        self.refresh()

    def _fill(self) -> None:
        view = self.ui.batchList
        blocked = view.blockSignals(True)
        view.clear()
        for row, (key, name) in enumerate(self._listed):
            view.addItem(name)  # an item made here might be Python's, and go with its name
            ticked = key not in self._unticked
            view.item(row).setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
            view.item(row).setToolTip(name)
        view.blockSignals(blocked)

    def _observeNames(self) -> None:
        """Follow the names of the listed nodes, by ID: a node kept here would outlive its scene."""
        scene, modified = slicer.mrmlScene, vtk.vtkCommand.ModifiedEvent
        for key, tag in self._observed:
            if (node := scene.GetNodeByID(key)) is not None:
                node.RemoveObserver(tag)
        nodes = [] if self._ofFolder else [scene.GetNodeByID(key) for key, _name in self._listed]
        self._observed = [
            (node.GetID(), node.AddObserver(modified, lambda *_: self.list())) for node in nodes
        ]

    def _onTicked(self, item: Any) -> None:
        key, _name = self._listed[self.ui.batchList.row(item)]
        if item.checkState() == qt.Qt.Checked:
            self._unticked.discard(key)
        else:
            self._unticked.add(key)
        self.refresh()

    @property
    def chosen(self) -> dict[int, Any]:
        """The ticked volumes or files, by the row in which they are listed."""
        ticked = {n: key for n, (key, _) in enumerate(self._listed) if key not in self._unticked}
        if self._ofFolder:
            return {row: Path(key) for row, key in ticked.items()}
        nodes = {row: slicer.mrmlScene.GetNodeByID(key) for row, key in ticked.items()}
        return {row: node for row, node in nodes.items() if node is not None}

    def obstacle(self) -> str:
        """Why no batch can start, as a sentence that says what to do; empty if one can."""
        if blocked := self._blocked():
            return blocked
        if self._ofFolder and not self._listed:
            return _("Choose a folder with volumes.")
        if not self.chosen:
            return _("Tick the volumes to translate.")
        if self._ofFolder and existingFolder(self.ui.batchOutputEdit.text.strip()) is None:
            return _("Choose an existing folder for the results.")
        return ""

    def runText(self) -> str:
        return _("Translate the ticked volumes")

    def runTip(self) -> str:
        return _("Translates one after the other, with the target and the quality from above.")

    def refresh(self) -> None:
        self.ui.batchInputs.enabled = self.job is None
        self.ui.batchFolders.visible = self._ofFolder
        self.ui.batchArea.visible = self.job is not None
        self.refreshButton()

    # what a click does

    def _onBrowse(self, edit: Any) -> None:
        folder = self._chooseFolder(edit.text)
        if folder:
            edit.text = folder
            self.list()

    def begin(self) -> Batch:
        output = self.ui.batchOutputEdit.text.strip() if self._ofFolder else None
        chosen = self.chosen
        self._rows = list(chosen)
        return self.logic.startAll(
            [*chosen.values()], output, self._onProgress, self._onDone, **self._options()
        )

    def started(self) -> None:
        self._onProgress(self.job)
        self._changed()

    def abandon(self) -> None:
        self._unticked.clear()  # the next scene's volumes may have the same IDs
        super().abandon()

    # what the batch says

    def _onProgress(self, batch: Batch) -> None:
        ui, done = self.ui, sum(item.seconds is not None for item in batch.items)
        part = 0.0 if batch.progress is None else batch.progress.fraction
        ui.batchBar.value = round(100 * (done + part) / len(batch.items))
        if batch.current is not None and batch.current.state == "running":
            text = _("{number} of {count}: {name}").format(
                number=done + 1, count=len(batch.items), name=batch.current.name
            )
            if batch.progress is not None:
                text += "\n" + texts.progressText(batch.progress)
            ui.batchProgressLabel.text = text
        if batch.progress is None:
            self._showStates(batch)

    def _showStates(self, batch: Batch) -> None:
        """The state of each volume, before its name, which may be long."""
        view = self.ui.batchList
        blocked = view.blockSignals(True)
        for row, item in zip(self._rows, batch.items, strict=True):
            words = {
                "waiting": "",
                "running": _("running"),
                "done": _("done"),
                "failed": _("failed"),
                "cancelled": _("not translated"),
            }[item.state]
            entry = view.item(row)
            entry.setText(f"{words}: {item.name}" if words else item.name)
            entry.setToolTip("\n".join(filter(None, (item.name, item.result, item.message))))
        view.blockSignals(blocked)

    def _onDone(self, batch: Batch) -> None:
        self.job = None
        self._showStates(batch)
        self.say(endingText(batch))
        self._changed()
        self.refresh()


def endingText(batch: Batch) -> str:
    """How a batch ended, and where to read more."""
    done, failed = batch.count("done"), batch.count("failed")
    left = len(batch.items) - done - failed
    parts = [_("{done} of {count} translated").format(done=done, count=len(batch.items))]
    if failed:
        parts.append(_("{failed} failed").format(failed=failed))
    if left:
        parts.append(_("{left} not translated, because it was cancelled").format(left=left))
    sentences = [", ".join(parts) + "."]
    first = next((item for item in batch.items if item.state == "failed"), None)
    if first is not None:
        sentences.append(f"{first.name}: {first.message}")
    if batch.table is not None:
        sentences.append(_("Summary: table '{name}'.").format(name=batch.table.GetName()))
    return " ".join(sentences)


def _imagesOfScene() -> list[Any]:
    """The scene's images that are no results and no label maps."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetAttribute("MIDiffusion.synthetic") is None
    ]
