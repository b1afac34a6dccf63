"""The module `qt` as Slicer's Python sees it, on top of PySide6.

Slicer's scripted modules meet Qt through PythonQt, whose manners differ from PySide6's: a Qt
property reads and writes as an attribute (`label.text`, not `label.text()`), `name` is another word
for `objectName`, and `connect("clicked()", f)` takes a signature. The classes below are Python
subclasses of the PySide6 ones with just these manners; PySide6's own classes are never touched
(patching them ends in crashes inside its bindings).

Where PythonQt would raise, so does this: an attribute that is neither a Qt property nor a
method can't be set (a misspelt `tooltip` must not pass a test), nor a signal that does not exist
connected.
"""

from __future__ import annotations

import re
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

# C++ asks Python for an override of these by name; a property in their place is not callable.
VIRTUAL = {"sizeHint", "minimumSizeHint"}


class PythonQtManners:
    """Mixin in front of a PySide6 class: what every PythonQt wrapper can do."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no property '{name}'")
        super().__setattr__(name, value)

    def __getattribute__(self, name: str) -> Any:
        # PySide6 looks these two up in its own way, past any override in a Python subclass, and
        # its signals call them with (sender, signature, slot).
        original = super().__getattribute__(name)
        if name not in ("connect", "disconnect"):
            return original

        def either(*arguments: Any) -> Any:
            if len(arguments) == 2 and isinstance(arguments[0], str):
                return getattr(self._signal(arguments[0]), name)(arguments[1])
            return original(*arguments)

        return either

    def className(self) -> str:
        return type(self).__name__

    def _signal(self, signature: str) -> Any:
        match = re.fullmatch(r"(\w+)\((.*)\)", signature.replace(" ", ""))
        if match is None:
            raise ValueError(f"'{signature}' is not a signature such as 'clicked()'")
        name, arguments = match.groups()
        # A stand-in declares signals with Python's `object`, where Slicer names its own classes.
        declared = re.sub(r"vtk\w+\*", "PyObject", arguments)
        for candidate in (arguments, declared):
            if self.metaObject().indexOfSignal(f"{name}({candidate})") >= 0:
                break
        else:
            raise ValueError(f"{self.className()} has no signal '{signature}'")
        bound = getattr(self, name)
        try:
            return bound[candidate] if candidate else bound
        except (KeyError, IndexError, TypeError):
            return bound


def _attribute(name: str, writable: bool) -> property:
    def read(self: Any) -> Any:
        return QtCore.QObject.property(self, name)

    def write(self: Any, value: Any) -> None:
        if not writable:
            raise AttributeError(f"property '{name}' can't be written")
        if not QtCore.QObject.setProperty(self, name, value):
            raise ValueError(f"property '{name}' does not take {value!r}")

    return property(read, write)


def with_manners(base: type, *, without: frozenset[str] = frozenset()) -> type:
    """A subclass of the PySide6 class `base` that behaves as PythonQt's wrapper of it."""
    meta = base.staticMetaObject  # type: ignore[attr-defined]
    namespace: dict[str, Any] = {"name": _attribute("objectName", True)}
    for index in range(meta.propertyCount()):
        item = meta.property(index)
        if item.name() not in VIRTUAL | without:
            namespace[item.name()] = _attribute(item.name(), item.isWritable())
    return type(base.__name__, (PythonQtManners, base), namespace)


WIDGETS: dict[str, type] = {
    base.__name__: with_manners(base)
    for base in (
        QtWidgets.QCheckBox,
        QtWidgets.QComboBox,
        QtWidgets.QDialog,
        QtWidgets.QDoubleSpinBox,
        QtWidgets.QFrame,
        QtWidgets.QGroupBox,
        QtWidgets.QLabel,
        QtWidgets.QLineEdit,
        QtWidgets.QListWidget,
        QtWidgets.QProgressBar,
        QtWidgets.QPushButton,
        QtWidgets.QSlider,
        QtWidgets.QSpinBox,
        QtWidgets.QTextEdit,
        QtWidgets.QToolButton,
        QtWidgets.QWidget,
    )
}


class Settings:
    """QSettings on a file of the host's own: a test never reads or writes the user's settings.

    Values come back as an .ini file gives them in Slicer, so numbers and booleans are texts.
    """

    path: str = ""

    def __init__(self) -> None:
        if not Settings.path:
            raise RuntimeError("host.start() must run before settings are used")
        self._settings = QtCore.QSettings(Settings.path, QtCore.QSettings.Format.IniFormat)

    def value(self, key: str, default: Any = None) -> Any:
        stored = self._settings.value(key)
        return default if stored is None else stored

    def setValue(self, key: str, value: Any) -> None:
        self._settings.setValue(key, value)
        self._settings.sync()
        # A fresh reader gives what the file holds, not the Python object that was written.
        self._settings = QtCore.QSettings(Settings.path, QtCore.QSettings.Format.IniFormat)

    def contains(self, key: str) -> bool:
        return bool(self._settings.contains(key))

    def remove(self, key: str) -> None:
        self._settings.remove(key)
        self._settings.sync()


def module() -> types.ModuleType:
    """A module object to be imported as `qt`."""
    from .uiloader import UiLoader

    qt = types.ModuleType("qt", __doc__)
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            if name.startswith("Q"):
                setattr(qt, name, getattr(source, name))
    for name, widget in WIDGETS.items():
        setattr(qt, name, widget)
    # A QTimer has a property and a static method of the same name; PythonQt offers the method.
    qt.QTimer = with_manners(QtCore.QTimer, without=frozenset({"singleShot"}))  # type: ignore[attr-defined]
    qt.QSettings = Settings  # type: ignore[attr-defined]
    qt.QUiLoader = UiLoader  # type: ignore[attr-defined]
    return qt
