"""How the panel feels: how long it foretells a translation to take and how long it then takes, and
the longest time for which it keeps the event loop waiting, in each thing that it does.

    QT_QPA_PLATFORM=offscreen python benchmarks/measure_panel.py [FILE]

On the tests' host (Slicer's MRML and VTK, PySide6 for Slicer's Qt side) with the real worker and
the shipped models. What Slicer itself does when a volume appears (views, volume rendering) is not
in it. FILE receives the figures as JSON. Waits are of 160 slices of 256 x 256 voxels, by the clock
on the wall and as processor time of the main thread, which programs beside it disturb little.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
FIELD_MM = 213.0  # of a slice: 128 pixels of the shipped models


@dataclass(frozen=True)
class Run:
    """A translation by the panel: of so many slices of FIELD_MM times `share`."""

    model: str
    slices: int
    share: float
    steps: int
    samples: int


# The first is foretold by the card, the others by what went before.
RUNS = (
    Run("flair", 160, 1.0, 4, 1),
    Run("flair", 48, 1.0, 4, 1),
    Run("t1", 48, 1.0, 8, 1),
    Run("ct", 120, 1.0, 1, 1),
    Run("flair", 80, 0.75, 4, 2),
)


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

    def run(
        self,
        activity: str,
        click: Callable[[], object],
        ended: Callable[[], bool],
        pause_s: float = 0.002,
    ) -> None:
        """From a click to the end of what it begins."""
        self.turn(activity, click)
        while not ended():
            self.turn(activity, self._application.processEvents)
            time.sleep(pause_s)
        self.turn(activity, self._application.processEvents)


def head(shape: tuple[int, int, int]) -> np.ndarray:
    """Something like a head, int16 [k, j, i]."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    inside = (k / 1.6) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1
    return np.where(inside, 500 + 200 * np.sin(7 * i + 3 * j), 0).astype(np.int16)


def volume_node(name: str, shape: tuple[int, int, int], pixel_mm: float) -> Any:
    """A head in the scene."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetSpacing(pixel_mm, pixel_mm, 1.0)
    slicer.util.updateVolumeFromArray(node, head(shape))
    return node


def foretold_and_taken(widget: Any, watch: Watch, run: Run) -> dict[str, Any]:
    """Seconds that the panel says before the click, by device, and those from the click on."""
    parameters, panel = widget._parameterNode, widget.panel
    side = round(192 * run.share)
    shape, pixel_mm = (run.slices, side, side), FIELD_MM / 192
    parameters.sourceVolume = volume_node(f"{run.slices} slices", shape, pixel_mm)
    parameters.model, parameters.steps, parameters.samples = run.model, run.steps, run.samples
    foretold = panel.foretold()
    watch.turn("estimate", panel.ui.translateButton.click)
    job = panel.job
    # An event loop that never sleeps would take a core from the worker.
    watch.run("estimate", lambda: None, lambda: panel.job is None, pause_s=0.05)
    return {**asdict(run), "foretold_s": foretold, "taken_s": round(job.elapsed_s, 2)}


def measure(folder: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """What was foretold and taken, and the longest turn by activity."""
    session = host.start(folder)
    panel = session.load(MODULE).widgetRepresentation()
    panel.resize(350, 900)
    panel.show()
    panel.enter()
    import slicer

    widget, ui = panel.self(), panel.self().ui
    watch, parameters = Watch(session.app), widget._parameterNode
    widget.panel.settings.device = "cpu"
    estimates = [foretold_and_taken(widget, watch, run) for run in RUNS]
    del watch.longest["estimate"]
    for name in ("T1", "T2"):
        volume_node(name, SHAPE, 0.9)
    ui.batchSection.collapsed = ui.comparisonSection.collapsed = False
    parameters.sourceVolume = slicer.util.getNode("T1")
    parameters.steps = parameters.samples = 1
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
    return estimates, watch.longest


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        estimates, longest = measure(Path(folder))
    report = {
        "benchmark": "panel",
        "version": __version__,
        "device": describe(torch.device("cpu")),
        "estimates": estimates,
        "volume": SHAPE,
        "longest": longest,
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if arguments:
        Path(arguments[0]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
