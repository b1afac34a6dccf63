"""Checks the module in a real Slicer, from the source tree, and takes pictures for a person:

    Slicer --testing --no-splash --python-script Testing/in_slicer/check_in_slicer.py [OUTPUT]

OUTPUT_FOLDER (default: out/slicer-check of the repository) receives report.json and the pictures;
docs/slicer-checklist.md says what to look at in them. Exit status: 0 if no check failed, 1 if one
did, 2 if nothing could be checked. Nothing is installed: without PyTorch, what needs it is skipped,
and said to be. Testing mode keeps the user's settings out of it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import sys
import time
import traceback
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULE = "MIDiffusionTranslate"
PASSED, FAILED, UNUSABLE = 0, 1, 2
NEEDED = ("torch", "safetensors")


def modulePath(root: Path) -> Path:
    """The module's file in the source tree."""
    return root / MODULE / f"{MODULE}.py"


def outputFolder(arguments: list[str], root: Path) -> Path:
    """Where the report goes. Raises ValueError, with the usage, for more than one argument."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        raise ValueError(f"usage: check_in_slicer.py [OUTPUT_FOLDER], not {' '.join(arguments)}")
    return Path(arguments[0]).resolve() if arguments else root / "out" / "slicer-check"


def loadedFrom(path: str | Path, root: Path) -> bool:
    """Whether a module's file is that of this source tree."""
    return Path(path).resolve() == modulePath(root).resolve()


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """The packages can't be found or imported meanwhile, installed or not."""
    there = {name: sys.modules[name] for name in packages if name in sys.modules}
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(there)


def environment(packages: tuple[str, ...] = ("numpy", *NEEDED)) -> dict[str, str]:
    """The interpreter and the versions of packages, none of which is imported."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class Report:
    """What was checked, with what outcome: `passed`, `failed` or `skipped`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checks: list[dict[str, Any]] = []
        self.pictures: list[str] = []
        self.environment: dict[str, str] = {}

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """A failure in the block is written down; the next check goes on."""
        started = time.monotonic()
        outcome, detail = "passed", ""
        try:
            yield
        except unittest.SkipTest as reason:
            outcome, detail = "skipped", str(reason)
        except Exception:
            outcome, detail = "failed", traceback.format_exc()
        seconds = round(time.monotonic() - started, 2)
        self.checks.append(dict(name=name, outcome=outcome, seconds=seconds, detail=detail))
        print(f"{outcome:8} {name}", detail, sep="\n" if detail else "", flush=True)

    def count(self, outcome: str) -> int:
        return sum(check["outcome"] == outcome for check in self.checks)

    @property
    def status(self) -> int:
        """Exit status: nothing passed is no success either."""
        if self.count("failed"):
            return FAILED
        return PASSED if self.count("passed") else UNUSABLE

    def write(self) -> Path:
        """report.json; raises OSError."""
        values = {
            "passed": self.status == PASSED,
            "counts": {name: self.count(name) for name in ("passed", "failed", "skipped")},
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "environment": self.environment,
            "checks": self.checks,
            "pictures": self.pictures,
        }
        path = self.folder / "report.json"
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        return path


class Check:
    """The module in the running application. From here on Slicer is needed."""

    def __init__(self, report: Report, root: Path) -> None:
        import slicer

        self.slicer, self.report, self.root = slicer, report, root

    @property
    def module(self) -> Any:
        return getattr(self.slicer.modules, MODULE.lower())

    @property
    def widget(self) -> Any:
        return self.module.widgetRepresentation().self()

    def run(self) -> None:
        check = self.report.check
        with hidden(*NEEDED):
            with check("the module loads without PyTorch"):
                self.load()
            if self.report.count("failed"):
                return
            with check("its panel opens without PyTorch and says what is missing"):
                self.open()
                self.expect(self.widget.panel.packages.missing() == list(NEEDED))
                self.expect(not self.widget.ui.translateButton.enabled, "Translate is enabled")
                self.picture("1-panel-without-pytorch")
        with check("the sample data are offered"):
            self.sampleData()
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        actions: dict[str, Callable[[], object]] = {
            "the self-test passes": self.slicer.selfTests[MODULE],
            "a click on Translate translates": self.translate,
            "source and result stand side by side, and go back": self.sideBySide,
            "a click on Cancel cancels": self.cancel,
            "closing the scene ends a translation": self.closeScene,
        }
        for name, action in actions.items():
            with check(name):
                if missing:
                    raise unittest.SkipTest(f"not installed: {' and '.join(missing)}")
                action()
        with check("the module can be reloaded"):
            self.slicer.util.reloadScriptedModule(MODULE)
            self.picture("5-panel-reloaded")

    def load(self) -> None:
        import qt

        factory = self.slicer.app.moduleManager().factoryManager()
        if not factory.isLoaded(MODULE):
            factory.registerModule(qt.QFileInfo(str(modulePath(self.root))))
            self.expect(factory.isRegistered(MODULE), "the module could not be registered")
            self.expect(factory.loadModules([MODULE]), "the module could not be loaded")
        wrong = f"it was loaded from {self.module.path}: take that folder off the module paths"
        self.expect(loadedFrom(self.module.path, self.root), wrong)

    def open(self) -> None:
        if self.slicer.util.mainWindow() is not None:
            self.slicer.util.selectModule(MODULE)
        else:
            self.module.widgetRepresentation().show()
            self.module.widgetRepresentation().enter()

    def sampleData(self) -> None:
        if importlib.util.find_spec("SampleData") is None:
            raise unittest.SkipTest("the Sample Data module is not there")
        from MIDiffusionTranslateLib.setup.sample_data import CATEGORY, registerSampleData

        registerSampleData()  # as the end of start-up does where the module is loaded by then
        self.expect(len(self.slicer.modules.sampleDataSources[CATEGORY]) >= 2)

    def ready(self) -> Any:
        """The panel of a scene with the small sample in it; returns its widgets."""
        source = sys.modules[MODULE].smallSample()  # type: ignore[attr-defined]
        self.open()
        self.widget._parameterNode.sourceVolume = source
        self.widget.panel.refresh()
        ui = self.widget.ui
        self.expect(ui.translateButton.enabled, f"Translate is disabled: {ui.hintLabel.text}")
        return ui

    def translate(self) -> None:
        self.slicer.mrmlScene.Clear()
        ui = self.ready()
        self.picture("2-panel-ready")
        ui.translateButton.click()
        longest = self.wait(lambda: self.widget.panel.job is None, 600)
        self.report.environment["longest turn of the event loop"] = f"{longest:.3f} s"
        self.expect(ui.statusLabel.text.startswith("Done in "), ui.statusLabel.text)
        self.picture("3-panel-done")
        self.views("3-views")

    def sideBySide(self) -> None:
        box = self.widget.ui.sideBySideCheckBox
        layout = self.slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if box.isHidden():
            raise unittest.SkipTest("there is no result, or there are no slice views")
        before = layout.GetViewArrangement()
        box.click()
        self.expect(layout.GetViewArrangement() == layout.SlicerLayoutSideBySideView)
        self.picture("3-side-by-side")
        box.click()
        self.expect(layout.GetViewArrangement() == before, "the layout did not come back")

    def cancel(self) -> None:
        ui, before = self.start(), self.slicer.mrmlScene.GetNumberOfNodes()
        self.picture("4-panel-running")
        ui.translateButton.click()
        self.wait(lambda: self.widget.panel.job is None, 30)
        self.expect(ui.statusLabel.text.startswith("Cancelled"), ui.statusLabel.text)
        self.expect(self.slicer.mrmlScene.GetNumberOfNodes() <= before, "nodes were added")

    def closeScene(self) -> None:
        self.start()
        process = self.widget.panel.job._process._popen
        self.slicer.mrmlScene.Clear()
        self.wait(lambda: process.poll() is not None, 10)

    def start(self) -> Any:
        """A translation that has made some progress."""
        ui = self.ready()
        ui.translateButton.click()
        self.wait(lambda: ui.progressBar.value > 0 or self.widget.panel.job is None, 300)
        self.expect(self.widget.panel.job is not None, ui.statusLabel.text)
        return ui

    def wait(self, condition: Callable[[], bool], seconds: float) -> float:
        """Lets the event loop run until the condition holds; the longest turn it took, seconds."""
        end, longest = time.monotonic() + seconds, 0.0
        while not condition():
            started = time.monotonic()
            self.expect(started < end, f"nothing happened within {seconds} s")
            self.slicer.app.processEvents()
            longest = max(longest, time.monotonic() - started)
            time.sleep(0.01)
        return longest

    def picture(self, name: str) -> None:
        """Of the whole window where there is one, else of the panel."""
        self.slicer.app.processEvents()
        widget = self.slicer.util.mainWindow() or self.module.widgetRepresentation()
        path = self.report.folder / f"{name}.png"
        self.expect(widget.grab().save(str(path)), f"{path} could not be written")
        self.report.pictures.append(path.name)

    def views(self, name: str) -> None:
        """Each slice view by itself: what is drawn by OpenGL is missing in some grabbed windows."""
        layout = self.slicer.app.layoutManager()
        if layout is None:
            return
        import ScreenCapture

        self.slicer.util.resetSliceViews()
        for view in layout.sliceViewNames():
            path = self.report.folder / f"{name}-{view.lower()}.png"
            drawn = layout.sliceWidget(view).sliceView()
            ScreenCapture.ScreenCaptureLogic().captureImageFromView(drawn, str(path))
            self.report.pictures.append(path.name)

    @staticmethod
    def expect(condition: object, otherwise: str = "") -> None:
        assert condition, otherwise


def main(arguments: list[str]) -> int:
    """All checks; returns the exit status."""
    import slicer

    try:
        report = Report(outputFolder(arguments, ROOT))
        report.folder.mkdir(parents=True, exist_ok=True)
        report.environment = environment()
        if not slicer.app.testingEnabled():
            raise ValueError("start Slicer with --testing: otherwise there would be dialogs")
        report.environment["slicer"] = str(getattr(slicer.app, "applicationVersion", "unknown"))
        Check(report, ROOT).run()
        print(f"{report.write()}: {'passed' if report.status == PASSED else 'NOT passed'}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    return report.status


if __name__ == "__main__":
    import slicer.util

    slicer.util.exit(main(sys.argv[1:]))
