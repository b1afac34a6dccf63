"""The panel on the host, with the real worker process; nothing may be left behind by a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from bundles import saveTiny

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "MIDiffusionTranslate" / "MIDiffusionTranslate.py"


class PanelDriver:
    """The opened module, with what tests do and look at over and over."""

    def __init__(self, session: host.Session, handover: Path) -> None:
        import slicer

        self.session, self.handover, self.slicer = session, handover, slicer
        self.module = session.load(MODULE)
        self.representation = self.module.widgetRepresentation()
        self.representation.resize(350, 700)
        self.representation.show()
        self.representation.enter()

    @property
    def widget(self) -> Any:
        return getattr(self.slicer.modules, "MIDiffusionTranslateWidget", None)

    @property
    def panel(self) -> Any:
        return self.widget.panel

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def parameters(self) -> Any:
        return self.widget._parameterNode

    @property
    def status(self) -> str:
        return str(self.ui.statusLabel.text)

    def click(self) -> None:
        assert self.ui.translateButton.enabled, self.ui.translateButton.toolTip
        self.ui.translateButton.click()

    def run(self) -> None:
        """Translate, to the end."""
        self.click()
        self.waitForEnd()

    def waitForEnd(self, seconds: float = 300) -> None:
        self.session.wait(lambda: self.panel.job is None, seconds, "the end of the translation")

    def waitForProgress(self) -> Any:
        """The job, once its worker has reported progress."""
        self.session.wait(lambda: self.ui.progressBar.value > 0 or self.panel.job is None, 300)
        assert self.panel.job is not None, self.status
        return self.panel.job

    def runForever(self) -> None:
        """Parameters of a run that lasts minutes."""
        self.sampling(100, 16)

    def sampling(self, steps: int, samples: int) -> None:
        """Choose the quality "Sample"."""
        self.parameters.quality = type(self.parameters.quality).sample
        self.parameters.steps, self.parameters.samples = steps, samples

    def standard(self) -> None:
        """Choose the standard quality."""
        self.parameters.quality = type(self.parameters.quality).standard

    def volumeNodes(self) -> list[Any]:
        return list(self.slicer.util.getNodesByClass("vtkMRMLVolumeNode"))

    def volumes(self) -> list[str]:
        return [node.GetName() for node in self.volumeNodes()]

    def workers(self) -> list[str]:
        """Command lines of this test's living workers, without the one that is idle."""
        lines: list[str] = []
        idle = None if self.widget is None else self.widget.logic.staying.pid
        for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else []:
            if entry.name == str(idle):
                continue
            try:
                command = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue
            if "midiffusion.worker.service" in command and str(self.handover) in command:
                lines.append(command)
        return lines

    def assertDisabled(self, reason: str) -> None:
        """Nothing can be translated, and the panel says why in both places."""
        button = self.ui.translateButton
        assert not button.enabled
        assert reason in button.toolTip
        assert reason in self.ui.hintLabel.text and self.ui.hintLabel.visible

    def assertIdle(self) -> None:
        """Nothing runs, nothing is left, and the panel is ready for the next translation."""
        assert self.panel.job is None
        assert self.widget.logic.jobs == []
        self.session.process(0.1)
        assert not self.widget.logic._timer.active
        self.session.wait(lambda: not self.workers(), 30, "the end of the worker process")
        assert list(self.handover.iterdir()) == []
        assert not self.ui.runArea.visible
        assert self.ui.inputsSection.enabled
        assert self.ui.translateButton.text == "Translate"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[host.Session]:
    session = host.start(tmp_path)
    yield session
    session.renew(tmp_path)


@pytest.fixture
def handover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where volumes are handed to the worker."""
    folder = tmp_path / "handover"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def tinyBundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saveTiny(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def models(tmp_path: Path, tinyBundle: Path) -> Path:
    """A folder of models with the tiny one and its backbone in it, free to change."""
    folder = tmp_path / "models"
    shutil.copytree(tinyBundle.parent, folder)
    return folder


@pytest.fixture
def addVolume(session: host.Session) -> Callable[..., Any]:
    """add(name, kind, slices): a volume of `slices` axial slices that looks like a head."""
    import slicer

    def add(name: str = "T1", kind: str = "vtkMRMLScalarVolumeNode", slices: int = 6) -> Any:
        k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (slices, 40, 36)), indexing="ij")
        inside = (k / 1.6) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1
        data = np.where(inside, 500 + 200 * np.sin(7 * i + 3 * j), 0).astype(np.int16)
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        node.SetSpacing(5.0, 5.0, 6.0)
        slicer.util.updateVolumeFromArray(node, data)
        return node

    return add


@pytest.fixture
def driver(session: host.Session, models: Path, handover: Path) -> PanelDriver:
    """The opened panel of an empty scene, with the tiny model chosen."""
    import qt

    qt.QSettings().setValue("MIDiffusion/ModelFolder", str(models))
    qt.QSettings().setValue("MIDiffusion/Device", "cpu")
    driver = PanelDriver(session, handover)
    driver.parameters.model = "tiny"
    return driver


@pytest.fixture
def ready(driver: PanelDriver, addVolume: Callable[..., Any]) -> PanelDriver:
    """The panel with a source volume chosen: a click translates."""
    driver.parameters.sourceVolume = addVolume()
    return driver


@pytest.fixture(autouse=True)
def oneThread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
