"""A folder of small head-like volumes to train on, and a training that takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MODULE = Path(__file__).resolve().parents[1] / "MIDiffusionTranslate"

# Run before the worker: short minutes and frequent checkpoints.
_QUICK = """
import sys
from midiffusion.training import command, look_fit, loop
from midiffusion.worker import service
seconds = command._seconds
command._seconds = lambda args: seconds(args) * float(sys.argv[3]) / 60
loop.CHECKPOINT_S = loop.FIRST_CHECKPOINT_S = float(sys.argv[2])
loop.REPORT_S = 0.2
look_fit._LEAST_PIXELS = 1
service.main(sys.argv[1:2])
"""


def quickLauncher(checkpoint_s: float, minute_s: float = 4.0) -> Callable[[Path], Any]:
    """A launcher of the real worker, trimmed so: with the seconds between two checkpoints, and
    those that a minute lasts."""
    from MIDiffusionTranslateLib.worker.worker_process import WorkerProcess

    def launch(folder: Path) -> WorkerProcess:
        # The last word is how tests tell a worker among the processes.
        words = [str(folder), str(checkpoint_s), str(minute_s), "midiffusion.worker.service"]
        environment = {**os.environ, "PYTHONPATH": str(MODULE)}
        return WorkerProcess([sys.executable, "-c", _QUICK, *words], environment, folder)

    return launch


def saveVolumes(folder: Path, count: int = 3) -> Path:
    """Writes `count` volumes of four slices to the folder, made if missing, and returns it."""
    from midiffusion.images.io import write_volume
    from midiffusion.images.volume import Volume

    folder.mkdir(parents=True, exist_ok=True)
    k, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (4, 40, 40)), indexing="ij")
    for index in range(count):
        head = (x / 0.7) ** 2 + (y / 0.9) ** 2 < 1
        core = ((x - 0.2 * np.cos(index)) / 0.2) ** 2 + (y / 0.3) ** 2 < 1
        data = np.where(head, 800.0 - 500.0 * core + 50.0 * np.sin(9 * x + k), 0.0)
        affine = np.diag([-5.0, -5.0, 6.0, 1.0])
        write_volume(folder / f"subject{index}.nii.gz", Volume(data.astype(np.float32), affine))
    return folder
