"""Questions to the user."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _


def confirm(question: str) -> bool:
    """A yes/no question. In testing mode there is no dialog and the answer is yes."""
    if slicer.app.testingEnabled():
        return True
    return bool(slicer.util.confirmYesNoDisplay(question, windowTitle=_("MIDiffusion")))


def chooseFolder(title: str, start: str) -> str:
    """The folder that the user chooses; empty if none."""
    window = slicer.util.mainWindow()
    return str(qt.QFileDialog.getExistingDirectory(window, title, start))
