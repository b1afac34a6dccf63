"""The longest time for which the panel keeps the event loop waiting, in each thing that it does.

    QT_QPA_PLATFORM=offscreen python benchmarks/panel_blocks.py [FILE]

On the tests' host (Slicer's MRML and VTK, PySide6 for Slicer's Qt side) with the real worker and
the shipped model; 160 slices of 256 x 256 voxels. What Slicer itself does when a volume appears
(views, volume rendering) is not in it. FILE receives the figures as JSON. Each is given by the
clock on the wall and as processor time of the main thread, which programs beside it disturb little.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "MIDiffusionTranslate")]

import host  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from midiffusion import __version__  # noqa: E402
from midiffusion.device import describe  # noqa: E402
from trainingimages import quickLauncher, saveVolumes  # noqa: E402

MODULE = ROOT / "MIDiffusionTranslate" / "MIDiffusionTranslate.py"
SHAPE = (160, 256, 256)  # k, j, i


class Watch:
    """Runs the event loop, and remembers the longest turn of each activity."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.longest: dict[str, dict[str, float]] = {}

    def turn(self, activity: str, action: Callable[[], object]) -> None:
        wall, own = time.perf_counter(), time.thread_time()
        action()
        taken = {
            "milliseconds": 1e3 * (time.perf_counter() - wall),
            "processor_milliseconds": 1e3 * (time.thread_time() - own),
        }
        before = self.longest.setdefault(activity, taken)
        self.longest[activity] = {key: max(before[key], taken[key]) for key in taken}

    def run(self, activity: str, click: Callable[[], object], ended: Callable[[], bool]) -> None:
        """From a click to the end of what it begins."""
        self.turn(activity, click)
        while not ended():
            self.turn(activity, self._application.processEvents)
            time.sleep(0.002)
        self.turn(activity, self._application.processEvents)


def head() -> np.ndarray:
    """Something like a head, int16 [k, j, i]."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij", sparse=True)
    inside = (k / 1.6) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1
    return np.where(inside, 500 + 200 * np.sin(7 * i + 3 * j), 0).astype(np.int16)


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """The longest turn by activity."""
    session = host.start(folder)
    panel = session.load(MODULE).widgetRepresentation()
    panel.resize(350, 900)
    panel.show()
    panel.enter()
    import slicer

    widget, ui = panel.self(), panel.self().ui
    watch, parameters = Watch(session.app), widget._parameterNode
    widget.panel.settings.device = "cpu"
    for name in ("T1", "T2"):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetSpacing(0.9, 0.9, 1.0)
        slicer.util.updateVolumeFromArray(node, head())
    ui.batchSection.collapsed = ui.comparisonSection.collapsed = False
    parameters.sourceVolume, parameters.steps = slicer.util.getNode("T1"), 1
    watch.run("translation", ui.translateButton.click, lambda: widget.panel.job is None)
    watch.turn("agreement map", ui.agreementButton.click)
    parameters.referenceVolume = slicer.util.getNode("T2")
    comparison = widget.panel.comparison
    watch.run("comparison", ui.compareButton.click, lambda: comparison.job is None)
    watch.run("batch", ui.batchButton.click, lambda: widget.panel.batch.batch is None)
    for section in (ui.statusLabel, ui.comparisonStatusLabel, ui.batchStatusLabel):
        print(section.text)

    training = widget.training
    widget.logic.launcher = quickLauncher(2.0, minute_s=15.0)
    widget.panel.settings.modelFolder = str(folder)
    training.ui.trainSection.collapsed = False
    training.ui.trainDataEdit.text = str(saveVolumes(folder / "images"))
    training.ui.trainNameEdit.text, training.ui.trainMinutesBox.value = "mine", 1
    training.refresh()
    watch.run("training", training.ui.trainButton.click, lambda: training.job is None)
    print(training.ui.trainStatusLabel.text)
    session.renew(folder)
    return watch.longest


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        longest = measure(Path(folder))
    report = {
        "benchmark": "panel",
        "version": __version__,
        "device": describe(torch.device("cpu")),
        "volume": SHAPE,
        "longest": longest,
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if arguments:
        Path(arguments[0]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
