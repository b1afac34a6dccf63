"""The line under Advanced that fetches a model into the folder of further models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from midiffusion.download import part_name
from midiffusion.errors import Cancelled
from slicer.i18n import tr as _

from .collaborators import Logic, Task
from .modelchooser import ModelChooser


class DownloadLine:
    """Address, button and bar: one download at a time, in the worker process.

    Args:
        ui: the widgets by name.
        logic: runs the worker.
        chooser: has the folder, and lists the new model.
        say: shows the user a sentence.
        changed: called when a download begins or ends.
    """

    def __init__(
        self,
        ui: Any,
        logic: Logic,
        chooser: ModelChooser,
        say: Callable[[str], object],
        changed: Callable[[], object],
    ) -> None:
        self.ui, self.logic, self.chooser = ui, logic, chooser
        self._say, self._changed = say, changed
        self.job: Task | None = None
        self._part = Path()
        ui.downloadButton.connect("clicked(bool)", lambda _checked: self.onClick())
        self._refresh()

    def onClick(self) -> None:
        """The one button: Download when idle, Cancel when running."""
        if self.job is not None:
            self.job.cancel()
            self._refresh()
            return
        url = self.ui.downloadEdit.text.strip()
        if not url:
            self._say(_("Enter the address of a model: that of the folder with its card.json."))
            return
        folder = self.chooser.folderForNew()
        if not folder:
            self._say(_("Not downloaded: no folder was chosen for the model."))
            return
        part = part_name()
        self._part = Path(folder) / part
        self._say("")
        job = self.logic.begin(
            "download",
            {"url": url, "model_folder": str(self._part.parent), "part": part},
            name="download",
            onEvent=self._heard,
            onDone=self._onDone,
        )
        if not job.finished:
            self.job = job
            self.ui.downloadBar.value = 0
        self._refresh()
        self._changed()

    def _refresh(self) -> None:
        ui, running = self.ui, self.job is not None
        for widget in (ui.downloadEdit, ui.modelFolderEdit, ui.browseButton, ui.clearFolderButton):
            widget.enabled = not running
        ui.downloadBar.visible = running
        ui.downloadButton.text = _("Cancel") if running else _("Download")
        ui.downloadButton.enabled = self.job is None or self.job.state != "cancelling"

    def _heard(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "progress":
            self.ui.downloadBar.value = round(100 * event["done"] / max(event["of"], 1))

    def _onDone(self, job: Task) -> None:
        self.job = None
        shutil.rmtree(self._part, ignore_errors=True)  # of a worker that was killed
        self._refresh()
        if job.error is None:
            self.ui.downloadEdit.text = ""
            self.chooser.list()
            text = _("Downloaded: '{id}' can be chosen as target now.")
            self._say(text.format(id=job.result["id"]))
        elif isinstance(job.error, Cancelled):
            self._say(_("The download was cancelled. Nothing was kept."))
        else:
            self._say(str(job.error))
        self._changed()
