"""Seconds of a computation on any device, and the volume that is translated to measure them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from midiffusion.images.volume import Volume

# Distance of the slices, millimetres: thick enough that a volume is translated in one plane.
_SLICE_MM = 3.0


def clock(device: torch.device) -> float:
    """Seconds now, after all that was asked of the device has been done: of the wall clock, or,
    where one thread of a CPU does everything, of this process, whose pauses are not its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()


def best_seconds(compute: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of `repeats` runs the shortest, which other work on the computer disturbed least; one more
    goes before them."""
    compute()
    taken = []
    for _ in range(repeats):
        start = clock(device)
        compute()
        taken.append(clock(device) - start)
    return min(taken)


def phantom(slices: int, size: int, pixel_mm: float) -> Volume:
    """A textured ellipsoid in air whose axial slices the model will see as `slices` of size x size
    pixels. The volume has half as many voxels again in each direction of the plane, so that
    resampling both ways is part of what is measured."""
    side = size * 3 // 2
    k, j, i = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in (slices, side, side)),
        indexing="ij",
        sparse=True,
    )
    noise = np.random.default_rng(0).standard_normal((slices, side, side), dtype=np.float32)
    tissue = 400 + 150 * np.cos(9 * i + 3 * k) * np.cos(7 * j) + 15 * noise
    data = np.where((k / 1.2) ** 2 + (j / 0.9) ** 2 + (i / 0.75) ** 2 < 1, tissue, 0)
    matrix = np.eye(4)
    step = size * pixel_mm / side
    matrix[:3, :3] = np.diag([step, step, _SLICE_MM])
    return Volume(data.astype(np.int16), matrix, "MR")
