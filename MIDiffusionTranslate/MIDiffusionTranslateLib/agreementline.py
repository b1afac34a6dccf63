"""The line under a result that says how well it agrees with its source, and offers the map."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .collaborators import Job


class AgreementLine:
    """Shows the agreement of the last result; adds its map to the scene when asked to, once.

    The map is kept until it is added or the next run begins.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._add: Callable[[], Any] | None = None
        ui.agreementButton.connect("clicked(bool)", lambda _checked: self.onAdd())
        self.forget()

    def forget(self) -> None:
        """Nothing to show: the map is let go of."""
        self._add = None
        self._ui.agreementArea.visible = False

    def show(self, job: Job) -> None:
        """The figure of a finished job."""
        median = job.provenance.get("agreement")
        if job.addAgreement is None or median is None:
            return
        self._add, job.addAgreement = job.addAgreement, None
        text = _("Agreement with the source inside the head: {median:.2f} (median)")
        self._ui.agreementLabel.text = text.format(median=median)
        self._ui.agreementButton.enabled = True
        self._ui.agreementArea.visible = True

    def onAdd(self) -> None:
        add, self._add = self._add, None
        if add is None:
            return
        self._ui.agreementButton.enabled = False
        figure = self._ui.agreementLabel.text
        try:
            sentence = _("Added: '{name}'.").format(name=add().GetName())
        except Exception as error:
            logging.exception("MIDiffusion: the map could not be added")
            sentence = _("The map could not be added ({error}).").format(error=error)
        self._ui.agreementLabel.text = f"{figure}\n{sentence}"
