"""A host for Slicer's Qt side, so that the module's panel runs and is tested without Slicer.

MRML, VTK and `slicer.util` are Slicer's own (slicer-core); Qt is PySide6 with PythonQt's manners;
the application, the CTK and MRML widgets, the base classes of scripted modules and the parameter
node wrapper are stand-ins of this package. See README.md for what that can and can't show.

    import host
    session = host.start(settings_folder)
    panel = session.load("MIDiffusionTranslate/MIDiffusionTranslate.py").widgetRepresentation()
"""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


# Widget classes without a stand-in that Slicer's own parameterNodeWrapper compares types with.
NAMED_BY_SLICER = {
    "ctk": [
        "ctkCheckBox",
        "ctkCheckablePushButton",
        "ctkColorPickerButton",
        "ctkComboBox",
        "ctkDirectoryButton",
        "ctkDoubleRangeSlider",
        "ctkDoubleSlider",
        "ctkDoubleSpinBox",
        "ctkPathLineEdit",
        "ctkRangeWidget",
    ],
    "slicer": ["qMRMLRangeWidget", "qMRMLSliderWidget", "qMRMLSpinBox"],
}


class Session:
    """The running host: one application, one scene, any number of modules."""

    def __init__(self, settings_folder: str | Path) -> None:
        import slicer

        from . import pythonqt

        self._settings = pythonqt.Settings
        self.dialogs: list[str] = []
        self.answer: Callable[[str], int] = lambda text: 0
        self.app = slicer.app
        self.modules: list[Any] = self.app.moduleManager().factoryManager().loaded
        self.scene = slicer.vtkMRMLScene()
        self._logic = slicer.vtkMRMLApplicationLogic()
        self._logic.SetMRMLScene(self.scene)
        self._logic.GetColorLogic().SetMRMLScene(self.scene)
        self.renew(settings_folder)

    def renew(self, settings_folder: str | Path) -> None:
        """Settings of its own, an empty scene, testing mode: a fresh start for the next test."""
        import slicer

        for module in self.modules:
            module.unload()
        self.modules.clear()
        self.process(0)
        slicer.mrmlScene = self.scene  # other tests in this process may use scenes of their own
        slicer.mrmlScene.Clear(True)
        self._logic.GetColorLogic().AddDefaultColorNodes()
        self._settings.path = str(Path(settings_folder) / "settings.ini")
        self.dialogs.clear()
        self.answer = lambda text: 0
        self.app.setTesting(True)

    def load(self, path: str | Path) -> Any:
        """Loads a scripted module as Slicer's module factory would; returns slicer.modules.x."""
        from .application import LoadedModule

        module = LoadedModule(Path(path).resolve())
        self.modules.append(module)
        return module

    def process(self, seconds: float = 0.05) -> None:
        """Lets the event loop run, deferred deletions included."""
        from PySide6 import QtCore, QtWidgets

        end = time.monotonic() + seconds
        while True:
            QtWidgets.QApplication.processEvents()
            QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    def wait(self, condition: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
        """Runs the event loop until `condition()` is true; raises TimeoutError after `seconds`."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {what or condition}")
            self.process(0.01)
        return value


_session: Session | None = None


def start(settings_folder: str | Path, *, slicer_python: str | Path | None = None) -> Session:
    """The host's one session in this process (Qt allows one application).

    With `slicer_python` (or the environment variable HOST_SLICER_PYTHON), a folder that holds
    Slicer's own Python package (Base/Python/slicer of its sources), ScriptedLoadableModule,
    parameterNodeWrapper and i18n are taken from there instead of from this package.
    """
    global _session
    if _session is None:
        _install(slicer_python or os.environ.get("HOST_SLICER_PYTHON") or None)
        _session = Session(settings_folder)
    else:
        _session.renew(settings_folder)
    return _session


def _install(slicer_python: str | Path | None) -> None:
    from . import pythonqt

    sys.modules["qt"] = pythonqt.module()
    ctk = sys.modules["ctk"] = types.ModuleType("ctk")

    import slicer
    import slicer.util

    from .widgets import CTK, MRML

    for name, widget in CTK.items():
        setattr(ctk, name, widget)
    for name, widget in MRML.items():
        setattr(slicer, name, widget)

    from .application import Application, message_box

    slicer.app = Application(testing=True)
    slicer.modules = types.SimpleNamespace()
    slicer.selfTests = {}
    ctk.ctkMessageBox = message_box(  # type: ignore[attr-defined]
        calls=_Late("dialogs"), answer=lambda text: _session.answer(text) if _session else 0
    )
    if slicer_python is None:
        from . import parameters, scripted

        i18n = types.ModuleType("slicer.i18n")
        i18n.tr = lambda text: slicer.app.translate("", text)  # type: ignore[attr-defined]
        i18n.translate = slicer.app.translate  # type: ignore[attr-defined]
        for name, module in (
            ("i18n", i18n),
            ("ScriptedLoadableModule", scripted),
            ("parameterNodeWrapper", parameters),
        ):
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)
    else:
        slicer.__path__.append(str(slicer_python))
        for module, names in NAMED_BY_SLICER.items():
            for name in names:
                setattr({"ctk": ctk, "slicer": slicer}[module], name, type(name, (), {}))


class _Late:
    """A list of the session, named before the session exists."""

    def __init__(self, name: str) -> None:
        self._name = name

    def append(self, item: Any) -> None:
        getattr(_session, self._name).append(item)
