"""The row under Advanced that downloads a model into the folder of further models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from midiffusion.errors import Cancelled
from midiffusion.models.download import part_name
from slicer.i18n import tr as _

from .interfaces import Logic, Task
from .model_chooser import ModelChooser
from .task_section import TaskSection


class DownloadSection(TaskSection):
    """Address, button and bar: one download at a time, in the worker process.

    Args:
        ui: the widgets by name.
        logic: runs the worker.
        chooser: has the folder, and lists the new model.
        tell: shows the user a sentence.
        changed: called when a download begins or ends.
    """

    cancelTip = _("Ends the download. Nothing is kept.")

    def __init__(
        self,
        ui: Any,
        logic: Logic,
        chooser: ModelChooser,
        tell: Callable[[str], object],
        changed: Callable[[], object],
    ) -> None:
        super().__init__(ui.downloadButton, None)
        self.ui, self.logic, self.chooser = ui, logic, chooser
        self._tell, self._changed = tell, changed
        self._part = Path()
        self.refresh()

    def runText(self) -> str:
        return _("Download")

    def runTip(self) -> str:
        return _("Downloads the model, the only thing here that uses the network.")

    def say(self, sentence: str) -> None:
        self._tell(sentence)

    def begin(self) -> Task | None:
        url = self.ui.downloadEdit.text.strip()
        if not url:
            self.say(_("Enter the address of a model: that of the folder with its card.json."))
            return None
        folder = self.chooser.folderForNew()
        if not folder:
            self.say(_("Not downloaded: no folder was chosen for the model."))
            return None
        part = part_name()
        self._part = Path(folder) / part
        return self.logic.begin(
            "download",
            {"url": url, "model_folder": folder, "part": part},
            name="download",
            onEvent=self._heard,
            onDone=self._onDone,
        )

    def started(self) -> None:
        self.ui.downloadBar.value = 0
        self.refresh()
        self._changed()

    def refresh(self) -> None:
        ui, running = self.ui, self.job is not None
        for widget in (ui.downloadEdit, ui.modelFolderEdit, ui.browseButton, ui.clearFolderButton):
            widget.enabled = not running
        ui.downloadBar.visible = running
        self.refreshButton()

    def _heard(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "progress":
            self.ui.downloadBar.value = round(100 * event["done"] / max(event["of"], 1))

    def _onDone(self, job: Task) -> None:
        self.job = None
        shutil.rmtree(self._part, ignore_errors=True)  # of a worker that was killed
        self.refresh()
        if job.error is None:
            self.ui.downloadEdit.text = ""
            self.chooser.list()
            text = _("Downloaded: '{id}' can be chosen as target now.")
            self.say(text.format(id=job.result["id"]))
        elif isinstance(job.error, Cancelled):
            self.say(_("The download was cancelled. Nothing was kept."))
        else:
            self.say(str(job.error))
        self._changed()
