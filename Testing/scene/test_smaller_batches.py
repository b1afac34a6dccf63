"""A worker that runs short of memory goes on with smaller batches, and says so when that fails."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.errors import OutOfMemory
from MIDiffusionTranslateLib.process import WorkerProcess
from scene.phantoms import head
from scene.test_worker import LIBRARY

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="limits and peaks as Linux has them"
)
SLICES, SIDE = 4, 384
# The worker with batches of a given size, which tells its largest address space before it leaves.
MEASURED = """
import sys
from midiffusion import batching, worker
batching._CPU_BATCH = int(sys.argv[2])
leave = worker.CancelWatch.leave
def measured(self, status):
    sys.stderr.write(next(line for line in open('/proc/self/status') if line.startswith('VmPeak')))
    sys.stderr.flush()
    leave(self, status)
worker.CancelWatch.leave = measured
worker.main(sys.argv[1:2])
"""


@pytest.fixture
def wideModel(tinyModel: Path, tmp_path: Path) -> Path:
    """A bundle whose network takes far more memory for a slice than all slices take themselves."""
    import torch
    from midiffusion.card import ModelCard
    from midiffusion.denoiser import Denoiser
    from midiffusion.model import save_bundle
    from midiffusion.network import UNet, UNetConfig

    card = ModelCard.read(tinyModel / "card.json")
    network = {**card.network, "channels": [48, 8]}
    torch.manual_seed(0)
    unet = UNet(UNetConfig(**network))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(0, 0.05)
    card = replace(card, network=network, pixel_mm=1.0)
    save_bundle(tmp_path / "wide", card, Denoiser(unet, card.sigma_data))
    return tmp_path / "wide"


def test_smaller_batches_where_memory_is_short(
    addVolume: Any, logic: Any, wideModel: Path, waitFor: Any, monkeypatch: Any
) -> None:
    import resource

    import slicer

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads take address space of their own
    tiles = (1, SIDE // 64, SIDE // 64)
    source = addVolume(np.tile(head((SLICES, 64, 64)), tiles), np.diag([1.0, 1.0, 5.0, 1.0]))

    def run(launcher: Callable[[Path], WorkerProcess]) -> tuple[Any, set[int]]:
        """The finished job, and the numbers of slices after which it reported progress."""
        done: set[int] = set()
        logic.launcher = launcher
        job = logic.start(
            source, wideModel, steps=1, device="cpu", onProgress=lambda p: done.add(p.slices_done)
        )
        waitFor(job)
        return job, done

    def start(folder: Path, batch: int, limit: int | None = None) -> WorkerProcess:
        def restrict() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        return WorkerProcess(
            [sys.executable, "-c", MEASURED, str(folder), str(batch)],
            {**os.environ, "PYTHONPATH": str(LIBRARY)},
            folder,
            restrict,
        )

    peaks = {}
    for batch, reported in ((1, {1, 2, 3, SLICES}), (4, {SLICES})):
        job, done = run(lambda folder, batch=batch: start(folder, batch))
        assert job.state == "done", job.error
        assert done == reported
        line = next(line for line in reversed(job.log) if line.startswith("VmPeak"))
        peaks[batch] = int(line.split()[1]) << 10
    expected = slicer.util.arrayFromVolume(job.node)
    more = peaks[4] - peaks[1]
    assert more > 48 << 20  # else the limits below mean nothing

    # Well above what single slices take: freed memory does not come back in one piece.
    job, done = run(lambda folder: start(folder, 4, peaks[1] + 7 * more // 10))
    assert job.state == "done", job.error
    assert done > {SLICES}
    found = slicer.util.arrayFromVolume(job.node)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)

    job, done = run(lambda folder: start(folder, 4, peaks[1] - more // 2))
    assert job.state == "failed"
    assert isinstance(job.error, OutOfMemory)
    assert re.search(r"\d+ MB used, \d+ MB free", str(job.error))
