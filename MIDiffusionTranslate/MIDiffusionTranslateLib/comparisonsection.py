"""The section that compares a result with a real volume: what it shows, and what a click does."""

from __future__ import annotations

import logging
from typing import Any

from midiffusion.errors import Cancelled, MIDiffusionError
from slicer.i18n import tr as _

from .collaborators import Logic, Task
from .comparing import addComparison, beginComparison
from .parameters import TranslateParameters


class ComparisonSection:
    """Presenter of the comparison: one at a time, in the worker process.

    Args:
        ui: the widgets by name.
        logic: runs the worker.
    """

    def __init__(self, ui: Any, logic: Logic) -> None:
        self.ui, self.logic = ui, logic
        self.parameters: TranslateParameters | None = None
        self.job: Task | None = None
        self._pair: tuple[Any, Any] = (None, None)
        ui.compareButton.connect("clicked(bool)", lambda _checked: self.onClick())
        self._showFigures("")
        self.say("")
        self.refresh()

    def setParameters(self, parameters: TranslateParameters | None) -> None:
        """The volumes to compare; None between scenes."""
        self.parameters = parameters
        self.refresh()

    def offer(self, result: Any) -> None:
        """Chooses a new result."""
        if self.parameters is not None:
            self.parameters.comparedVolume = result

    def obstacle(self) -> str:
        """Why no comparison can start; empty if one can."""
        parameters = self.parameters
        if parameters is None or parameters.comparedVolume is None:
            return _("Select the volume to judge.")
        if parameters.referenceVolume is None:
            return _("Select a real volume as reference.")
        return ""

    def refresh(self) -> None:
        """Brings the button in line with the inputs and the state."""
        ui, button = self.ui, self.ui.compareButton
        running = self.job is not None
        for selector in (ui.comparedSelector, ui.referenceSelector):
            selector.enabled = not running
        if self.job is not None:
            cancelling = self.job.state == "cancelling"
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("Ends the comparison.")
        else:
            obstacle = self.obstacle()
            button.text = _("Compare")
            button.enabled = not obstacle
            button.toolTip = obstacle or _(
                "Computes the figures and adds them to a table of the scene."
            )

    def say(self, sentence: str) -> None:
        """The line that says what happened and what to do."""
        self.ui.comparisonStatusLabel.text = sentence
        self.ui.comparisonStatusLabel.visible = bool(sentence)

    def _showFigures(self, text: str) -> None:
        self.ui.comparisonLabel.text = text
        self.ui.comparisonLabel.visible = bool(text)

    def onClick(self) -> None:
        """The one button: Compare when idle, Cancel when running."""
        if self.job is not None:
            self.job.cancel()
            self.refresh()
            return
        parameters = self.parameters
        if parameters is None or self.obstacle():
            self.refresh()
            return
        self._showFigures("")
        self._pair = (parameters.comparedVolume, parameters.referenceVolume)
        try:
            job = beginComparison(self.logic, *self._pair, self._onDone)
        except MIDiffusionError as error:
            self.say(str(error))
            return
        except Exception as error:
            logging.exception("MIDiffusion: the comparison could not start")
            text = _("The comparison could not start ({error}). The log has the details.")
            self.say(text.format(error=error))
            return
        if not job.finished:
            self.say(_("Comparing..."))
            self.job = job
        self.refresh()

    def abandon(self) -> None:
        """The scene or the module goes away."""
        if self.job is not None:
            self.job.abandon()  # which calls _onDone
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
