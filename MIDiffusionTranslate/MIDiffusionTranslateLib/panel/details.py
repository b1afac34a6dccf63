"""The messages of a process that failed, below the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import qt


class Details:
    """Keeps the collapsed section *Details* and its button *Copy*."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        ui.copyDetailsButton.connect("clicked(bool)", lambda _checked: self.onCopy())
        self.show(())

    def show(self, log: Iterable[str]) -> None:
        """The lines of a failed job; without any there is nothing to see."""
        text = "\n".join(log)
        self._ui.detailsText.plainText = text
        self._ui.detailsSection.collapsed = True
        self._ui.detailsSection.visible = bool(text)

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(self._ui.detailsText.plainText)
