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

from ..errors import Cancelled

if TYPE_CHECKING:
    import numpy as np

    from .task import Task

_STEP_S = 1.0  # between two signs of life
_SAVING_S = 60.0  # for the step under way, the loss of the images held back, and the files


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises as the command."""
    from ..training.cli import main

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
    """[2, H, W] in model units: a slice held back from training, and what the model makes of it.

    The slice is the middle one of the first volume by name, which `training.data` holds back.
    """
    import numpy as np

    from ..grid import SliceGrid
    from ..intensity import intensity_map
    from ..io import ENDINGS, read_volume
    from ..model import load_model
    from ..volume import Volume

    model = load_model(bundle)
    card, mapping = model.card, intensity_map(model.card.intensity)
    files = (path for path in data.iterdir() if path.name.lower().endswith(ENDINGS))
    volume = read_volume(min(files, key=lambda path: path.name))
    grid = SliceGrid.of(volume, card.pixel_mm, card.orientation, 8)
    slices = grid.to_slices(mapping.forward(volume.data)[0])
    middle = slices[len(slices) // 2][None]
    # The geometry of an axial slice does for all: a model's own grid is what it is laid on again.
    axes = np.diag([-card.pixel_mm, -card.pixel_mm, card.pixel_mm, 1.0])
    made = model.translate(Volume(mapping.inverse(middle), axes), seed=0, device=device)
    return np.concatenate([middle, mapping.forward(made.volume.data)[0]])
