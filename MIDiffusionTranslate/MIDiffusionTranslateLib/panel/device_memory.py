"""The free memory of the chosen device, beside its choice."""

from __future__ import annotations

from typing import Any

from midiffusion.errors import Cancelled
from midiffusion.runtime import memory
from slicer.i18n import tr as _

from ..settings import ComputerSettings
from .interfaces import Logic, Packages, Task


class DeviceMemory:
    """Keeps `deviceMemoryLabel` in line with the device.

    Of the processor it is known at once. For a GPU a worker process is asked, which loads PyTorch:
    only while the choice is in sight.

    Args:
        ui: the widgets by name.
        logic: runs the worker.
        settings: has the device.
        packages: without PyTorch nobody is asked.
    """

    def __init__(
        self, ui: Any, logic: Logic, settings: ComputerSettings, packages: Packages
    ) -> None:
        self._ui, self._logic, self._settings, self._packages = ui, logic, settings, packages
        self.job: Task | None = None
        ui.advancedSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.look())
        self._show("")

    def look(self) -> None:
        """Finds out anew, if anybody can see it."""
        self.abandon()
        if self._ui.advancedSection.collapsed or self._packages.missing():
            self._show("")
        elif self._settings.device == "cpu":
            self._show(freeText("", memory.free_bytes()))
        else:
            self._show(_("Looking for the device..."))
            job = self._logic.begin(
                "probe",
                {"device": self._settings.device},
                name="look for the device",
                onDone=self._onDone,
            )
            self.job = None if job.finished else job

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if self.job is not None:
            self.job.abandon()

    def _onDone(self, job: Task) -> None:
        self.job = None
        if isinstance(job.error, Cancelled):
            self._show("")
        elif job.error is not None:
            self._show(str(job.error))
        else:
            self._show(freeText(job.result["device"], job.result["free"]))

    def _show(self, text: str) -> None:
        self._ui.deviceMemoryLabel.text = text
        self._ui.deviceMemoryLabel.visible = bool(text)


def freeText(device: str, free: int | None) -> str:
    """The device and its free memory in words; empty if neither is known."""
    if free is None:
        return device
    text = _("{gigabytes:.1f} GB free").format(gigabytes=free / 1e9)
    return f"{device}: {text}" if device else text
