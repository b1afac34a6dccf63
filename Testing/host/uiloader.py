"""QUiLoader that makes the host's classes, and the connections that name Slicer's types."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from .pythonqt import WIDGETS
from .widgets import STAND_INS


class UiLoader(QtUiTools.QUiLoader):
    def createWidget(self, className: str, parent: Any = None, name: str = "") -> Any:
        table = {**WIDGETS, **STAND_INS}
        if className not in table:
            raise RuntimeError(f"the host has no stand-in for the widget class {className}")
        widget = table[className](parent)
        widget.setObjectName(name)
        return widget

    def load(self, device: QtCore.QIODevice, parent: Any = None) -> QtWidgets.QWidget:
        """The widget of a .ui file, connected as the file says.

        The connections are made here and not by Qt, whose loader knows only signals and slots with
        C++ types; Slicer's are declared with Python's object.
        """
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        wanted = tree.find("connections")
        if wanted is not None:
            tree.remove(wanted)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        top = super().load(buffer, parent)
        for connection in [] if wanted is None else wanted.findall("connection"):
            sender, signal, receiver, slot = (
                connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot")
            )
            target = getattr(_named(top, receiver), slot.split("(")[0])
            _named(top, sender).connect(signal, target)
        return top


def _named(top: Any, name: str) -> Any:
    if top.objectName == name:
        return top
    child = top.findChild(QtWidgets.QWidget, name)
    if child is None:
        raise RuntimeError(f"the .ui file connects '{name}', which it does not contain")
    return child
