"""A worker that runs short of memory goes on with smaller batches, and says so when that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.errors import OutOfMemory
from scene.launching import launchScript
from scene.phantoms import head

SLICES = 4
# A worker whose network finds room for so many slices at once. The request that fails is a real
# one: no machine has that much, so torch raises what it raises when memory is short.
SHORT = """
import sys, torch
from midiffusion.runtime import batching
from midiffusion.worker import service as worker
from midiffusion.diffusion.network import UNet
batching._CPU_BATCH = 4
forward = UNet.forward
def short(self, x, *arguments, **named):
    if len(x) > int(sys.argv[2]):
        torch.empty(1 << 46)
    return forward(self, x, *arguments, **named)
UNet.forward = short
worker.main(sys.argv[1:2])
"""


@pytest.mark.parametrize(
    ("room", "reported"),
    [pytest.param(2, {2, SLICES}, marks=pytest.mark.slow), (1, {1, 2, 3, SLICES})],
)
def test_smaller_batches_where_memory_is_short(
    addVolume: Any, logic: Any, tinyModel: Path, waitFor: Any, room: int, reported: set[int]
) -> None:
    import slicer

    source = addVolume(head((SLICES, 64, 64)), np.diag([1.0, 1.0, 5.0, 1.0]))
    expected = slicer.util.arrayFromVolume(logic.translate(source, tinyModel, steps=1))
    done: set[int] = set()
    logic.launcher = lambda folder: launchScript(folder, SHORT, room)
    job = logic.start(source, tinyModel, steps=1, onProgress=lambda p: done.add(p.slices_done))
    waitFor(job)
    assert job.state == "done", job.error
    assert done == reported
    found = slicer.util.arrayFromVolume(job.node)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def test_not_even_one_slice_fits(
    addVolume: Any, logic: Any, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume(head((SLICES, 64, 64)))
    untouched()
    logic.launcher = lambda folder: launchScript(folder, SHORT, 0)
    with pytest.raises(OutOfMemory, match=r"Not even one slice .*\d+ MB"):
        logic.translate(source, tinyModel, steps=1)
    untouched()
