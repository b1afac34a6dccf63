"""A folder of small head-like volumes to train on, and a training that takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MODULE = Path(__file__).resolve().parents[1] / "MIDiffusionTranslate"

# Run before the worker: a network that is trained in no time, and shorter minutes.
_QUICK = """
import dataclasses
import sys
from midiffusion import worker
from midiffusion.training import cli, loop
from midiffusion.training.configuration import TrainingConfig
read, train = TrainingConfig.for_own_images.__func__, cli.train
def quick(cls, target):
    return dataclasses.replace(
        read(cls, target), network={"channels": [8, 8], "embedding": 16}, size=64, pixel_mm=6.0,
        lmi={"dilations": [1], "bandwidths": [0.1], "cross_dilations": []}, batch=2,
        precision="float32",
    )
def short(*arguments, max_minutes, **others):
    return train(*arguments, max_minutes=max_minutes * float(sys.argv[3]) / 60, **others)
TrainingConfig.for_own_images, cli.train = classmethod(quick), short
loop.CHECKPOINT_S = loop.FIRST_CHECKPOINT_S = float(sys.argv[2])
loop.REPORT_S = 0.2
worker.main(sys.argv[1:2])
"""


def quickLauncher(checkpoint_s: float, minute_s: float = 4.0) -> Callable[[Path], Any]:
    """A launcher of the real worker, trimmed so: with the seconds between two checkpoints, and
    those that a minute lasts."""
    from MIDiffusionTranslateLib.process import WorkerProcess

    def launch(folder: Path) -> WorkerProcess:
        # The last word is how tests tell a worker among the processes.
        words = [str(folder), str(checkpoint_s), str(minute_s), "midiffusion.worker"]
        environment = {**os.environ, "PYTHONPATH": str(MODULE)}
        return WorkerProcess([sys.executable, "-c", _QUICK, *words], environment, folder)

    return launch


def saveVolumes(folder: Path, count: int = 3) -> Path:
    """Writes `count` volumes of four slices to the folder, made if missing, and returns it."""
    from midiffusion.io import write_volume
    from midiffusion.volume import Volume

    folder.mkdir(parents=True, exist_ok=True)
    k, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (4, 40, 40)), indexing="ij")
    for index in range(count):
        head = (x / 0.7) ** 2 + (y / 0.9) ** 2 < 1
        core = ((x - 0.2 * np.cos(index)) / 0.2) ** 2 + (y / 0.3) ** 2 < 1
        data = np.where(head, 800.0 - 500.0 * core + 50.0 * np.sin(9 * x + k), 0.0)
        affine = np.diag([-5.0, -5.0, 6.0, 1.0])
        write_volume(folder / f"subject{index}.nii.gz", Volume(data.astype(np.float32), affine))
    return folder
