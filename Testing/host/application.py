"""`slicer.app` and `slicer.modules`: what a scripted module asks of the application."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .pythonqt import WIDGETS, PythonQtManners, with_manners

_Object: Any = with_manners(QtCore.QObject)


class ModuleFactory:
    """The part of qSlicerModuleFactoryManager with which a script loads a module file."""

    def __init__(self) -> None:
        self.loaded: list[LoadedModule] = []
        self._registered: dict[str, str] = {}

    def registerModule(self, file: QtCore.QFileInfo) -> None:
        if file.exists():
            self._registered[file.baseName()] = file.absoluteFilePath()

    def isRegistered(self, name: str) -> bool:
        return name in self._registered

    def isLoaded(self, name: str) -> bool:
        return any(module.name == name for module in self.loaded)

    def loadModules(self, names: list[str]) -> bool:
        for name in names:
            if not self.isRegistered(name):
                return False
            self.loaded.append(LoadedModule(self._registered[name]))
        return True


class ModuleManager(_Object):
    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._factory = ModuleFactory()

    def factoryManager(self) -> ModuleFactory:
        return self._factory


class Application(_Object):
    """The part of qSlicerApplication that scripted modules use."""

    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()

    applicationName = "Slicer host"

    def __init__(self, testing: bool) -> None:
        super().__init__()
        self._qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["host"])
        self._testing = testing
        self._modules = ModuleManager()

    def testingEnabled(self) -> bool:
        return self._testing

    def setTesting(self, testing: bool) -> None:
        """Not in Slicer, where it is a command-line option: lets a test ask for dialogs."""
        self._testing = testing

    def commandOptions(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(testingEnabled=self._testing)

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def processEvents(self, *arguments: Any) -> None:
        QtWidgets.QApplication.processEvents()

    def topLevelWidgets(self) -> list[Any]:
        return []

    def layoutManager(self) -> None:
        return None

    def translate(self, context: str, text: str) -> str:
        return text

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()


class ModuleParent(types.SimpleNamespace):
    """The C++ side of a scripted module, given to its constructor as `parent`."""


class WidgetRepresentation(WIDGETS["QWidget"]):  # type: ignore[misc]
    """The C++ side of a module's panel (qSlicerScriptedLoadableModuleWidget)."""

    def __init__(self, module: LoadedModule) -> None:
        super().__init__()
        self._module = module
        self._entered = False
        self._self: Any = None
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)

    @property
    def isEntered(self) -> bool:
        return self._entered

    def self(self) -> Any:
        return self._self

    def reload(self) -> None:
        """Makes the panel's Python object anew from the module's current source."""
        source = sys.modules[self._module.name]
        self._self = getattr(source, f"{self._module.name}Widget")(self)
        setattr(slicer.modules, f"{self._module.name}Widget", self._self)
        self._self.setup()
        if self._entered:
            self._self.enter()

    def enter(self) -> None:
        self._entered = True
        self._self.enter()

    def exit(self) -> None:
        self._entered = False
        self._self.exit()


class LoadedModule:
    """`slicer.modules.<name in lower case>` of one scripted module file."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.name = Path(path).stem
        folder = str(Path(path).parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        assert spec is not None and spec.loader is not None
        source = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = source
        spec.loader.exec_module(source)
        self.parent = ModuleParent(path=self.path, icon=None)
        self.module = getattr(source, self.name)(self.parent)
        self._representation: WidgetRepresentation | None = None
        setattr(slicer.modules, self.name.lower(), self)

    def widgetRepresentation(self) -> WidgetRepresentation:
        """The panel, made at the first call."""
        if self._representation is None:
            self._representation = WidgetRepresentation(self)
            self._representation.reload()
        return self._representation

    def unload(self) -> None:
        """As at application exit: the module manager announces it, the panel cleans up."""
        slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(self.name)
        if self._representation is not None:
            self._representation.deleteLater()
            self._representation = None
        for name in (self.name.lower(), f"{self.name}Widget"):
            if hasattr(slicer.modules, name):
                delattr(slicer.modules, name)


def message_box(calls: list[str], answer: Callable[[str], int]) -> type:
    """A stand-in of ctkMessageBox that records its text and answers by itself."""

    class ctkMessageBox(PythonQtManners, QtCore.QObject):
        text = ""
        icon = None
        standardButtons = None
        windowTitle = ""
        detailedText = ""

        def __init__(self, parent: Any = None) -> None:
            super().__init__()

        def exec_(self) -> int:
            calls.append(self.text)
            return answer(self.text)

    return ctkMessageBox
