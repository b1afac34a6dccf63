"""Trains a target model: `midiffusion train`, with a picture after every checkpoint.

Field of `job.json`: `arguments`, those of the command. Events on the way:

    {"event": "step"}                a sign of life, after steps of the training
    {"event": "checkpoint"}          the bundle is written; after the last one all images are read
                                     once more
    {"event": "picture", "file"}     a float32 [2, H, W] .npy in the job's folder: a slice that is
                                     held back, and what the model makes of its structure

"done" carries nothing. The loss is in the run's own `log.csv`. A cancel makes a checkpoint first,
once the training has begun; before that there is nothing to keep.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import Cancelled

if TYPE_CHECKING:
    import numpy as np

    from .task import Task

_STEP_S = 1.0  # between two signs of life
_SAVING_S = 60.0  # for the step under way, the loss of the images held back, and the files


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises as the command."""
    from ...training.command import main

    task.check()  # before anything is in the folder
    pictures, told = 0, 0.0

    def show(bundle: Path, data: Path, device: str) -> None:
        nonlocal pictures
        task.check()
        task.send("checkpoint")
        try:
            pair = picture(bundle, data, device)
        except Exception:  # a picture less is no reason to lose the training
            traceback.print_exc(file=sys.stderr)
            return
        pictures += 1
        task.send("picture", file=task.save(f"picture-{pictures}", pair))

    def stop() -> bool:
        nonlocal told
        task.grace_s = _SAVING_S  # from the first step on there is something to keep
        if time.monotonic() >= told + _STEP_S:
            told = time.monotonic()
            with contextlib.suppress(Cancelled):  # nobody reads: what there is to keep is kept
                task.send("step")
        return task.cancelled()

    main(task.job["arguments"], on_bundle=show, stop=stop)
    return {}


def picture(bundle: Path, data: Path, device: str) -> np.ndarray:
    """[2, H, W] in model units: the middle slice of the first volume by name, and what the model
    makes of it."""
    import numpy as np

    from ...images.formats import volume_files
    from ...images.grid import SliceGrid
    from ...images.intensity import intensity_map
    from ...images.io import read_volume
    from ...images.volume import Volume
    from ...pipeline.target import load_model
    from ...training.data import acquisition_plane

    model = load_model(bundle)
    card, mapping = model.card, intensity_map(model.card.intensity)
    volume = read_volume(volume_files(data)[0])
    grid = SliceGrid.of(volume, card.pixel_mm, acquisition_plane(volume), 8)
    slices = grid.to_slices(mapping.forward(volume.data)[0])
    middle = slices[len(slices) // 2][None]
    # The geometry of an axial slice serves for all planes.
    axes = np.diag([-card.pixel_mm, -card.pixel_mm, card.pixel_mm, 1.0])
    made = model.translate(Volume(mapping.inverse(middle), axes), views=1, device=device)
    return np.concatenate([middle, mapping.forward(made.volume.data)[0]])
