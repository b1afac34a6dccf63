"""The section that compares a result with a real volume: what it shows, and what a click does."""

from __future__ import annotations

import logging
from typing import Any

import slicer
from midiffusion.errors import Cancelled
from slicer.i18n import tr as _

from ..scene.comparison import addComparison, beginComparison
from ..settings import TranslateParameters
from .interfaces import Logic, Task
from .task_section import TaskSection


class CompareSection(TaskSection):
    """Presenter of the comparison: one at a time, in the worker process.

    Args:
        ui: the widgets by name.
        logic: runs the worker.
    """

    cancelTip = _("Ends the comparison.")
    failure = _("The comparison could not start ({error}). The log has the details.")

    def __init__(self, ui: Any, logic: Logic) -> None:
        super().__init__(ui.compareButton, ui.comparisonStatusLabel, ui.comparisonHintLabel)
        self.ui, self.logic = ui, logic
        self.parameters: TranslateParameters | None = None
        self._pair: tuple[Any, Any] = (None, None)
        self._offered = ""  # ID of a result that came while there were no parameters
        # Results only: the error map and the deviation have no such attribute.
        ui.comparedSelector.addAttribute("vtkMRMLScalarVolumeNode", "MIDiffusion.intensity")
        self._showFigures("")
        self.say("")
        self.refresh()

    def setParameters(self, parameters: TranslateParameters | None) -> None:
        """The volumes to compare; None between scenes or while another module is shown."""
        self.parameters = parameters
        offered = slicer.mrmlScene.GetNodeByID(self._offered) if self._offered else None
        if parameters is not None:
            self._offered = ""
            if offered is not None:
                parameters.comparedVolume = offered
        self.refresh()

    def offer(self, result: Any) -> None:
        """Chooses a new result."""
        if self.parameters is not None:
            self.parameters.comparedVolume = result
        else:
            self._offered = result.GetID()

    def runText(self) -> str:
        return _("Compare")

    def runTip(self) -> str:
        return _("Computes the figures and adds them to a table of the scene.")

    def obstacle(self) -> str:
        parameters = self.parameters
        if parameters is None or parameters.comparedVolume is None:
            return _("Select the result to judge.")
        if parameters.referenceVolume is None:
            return _("Select a real volume as reference.")
        return ""

    def refresh(self) -> None:
        for selector in (self.ui.comparedSelector, self.ui.referenceSelector):
            selector.enabled = self.job is None
        self.refreshButton()

    def _showFigures(self, text: str) -> None:
        self.ui.comparisonLabel.text = text
        self.ui.comparisonLabel.visible = bool(text)

    def begin(self) -> Task:
        assert self.parameters is not None
        self._showFigures("")
        self._pair = (self.parameters.comparedVolume, self.parameters.referenceVolume)
        return beginComparison(self.logic, *self._pair, self._onDone)

    def started(self) -> None:
        self.say(_("Comparing..."))

    def abandon(self) -> None:
        super().abandon()
        self._offered = ""
        self._showFigures("")
        self.say("")

    def _onDone(self, job: Task) -> None:
        self.job = None
        (result, reference), self._pair = self._pair, (None, None)
        self.refresh()
        if isinstance(job.error, Cancelled):
            self.say(_("Cancelled. Nothing was added to the scene."))
        elif job.error is not None:
            self.say(str(job.error))
        elif result.GetScene() is None or reference.GetScene() is None:
            self.say(_("A volume has left the scene in the meantime: choose again."))
        else:
            self._keep(result, reference, job.result)

    def _keep(self, result: Any, reference: Any, figures: dict[str, Any]) -> None:
        try:
            table = addComparison(result, reference, figures)
        except Exception as error:
            logging.exception("MIDiffusion: the figures could not be added")
            self.say(_("The figures could not be added ({error}).").format(error=error))
            return
        self._showFigures(figuresText(figures))
        text = _("'{result}' against '{reference}', also in the table '{table}'.")
        self.say(
            text.format(
                result=result.GetName(), reference=reference.GetName(), table=table.GetName()
            )
        )


def figuresText(figures: dict[str, Any]) -> str:
    """The figures of a comparison in lines that fit a narrow panel."""
    mae = "{:.3f}".format(figures["mae"])
    if figures["mae_hu"] is not None:
        mae += _(" ({hu:.0f} HU)").format(hu=figures["mae_hu"])
    text = _("SSIM {ssim:.3f}, PSNR {psnr:.1f} dB\nMAE {mae}, MI {mi:.2f} nats").format(
        ssim=figures["ssim"], psnr=figures["psnr"], mae=mae, mi=figures["mi"]
    )
    if figures["covered"] < 0.995:
        part = _("The reference covers {share:.0f} % of the result's head.")
        text += "\n" + part.format(share=100 * figures["covered"])
    return text
