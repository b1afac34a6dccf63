"""Translates the volume that the application wrote: `source.npy` in, `result.npy` and company out.

Fields of `job.json`: `ijkToRAS` (4x4), `modality`, `model` (id or folder), `model_folder`, `steps`,
`seed`, `samples`, `sampler`, `device`. Events on the way:

    {"event": "progress", "step", "of", "slices_done", "slices", "eta_s", "device", "memory"}
    {"event": "preview", "file"}                 a small float32 [H, W] .npy in the folder
    {"event": "warning", "message"}
    {"event": "done", "result", "uncertainty", "agreement", "provenance"}
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..model import Translation
    from ..sampling import Progress
    from ..volume import Volume
    from .task import Task

_LIBRARY = Path(__file__).parents[1]
_PREVIEW_S = 0.2  # between two previews
_OPTIONS = ("steps", "seed", "samples", "sampler", "device")


def run(task: Task) -> dict[str, Any]:
    """See the module."""
    from ..volume import Volume

    job = task.job
    made = translated(task, Volume(task.load("source"), job["ijkToRAS"], job.get("modality", "")))
    volumes = {"result": made.volume, "uncertainty": made.uncertainty, "agreement": made.agreement}
    files = {
        name: None if volume is None else task.save(name, volume.data)
        for name, volume in volumes.items()
    }
    return {**files, "provenance": made.provenance}


def translated(task: Task, source: Volume) -> Translation:
    """`source` translated as the job says, with progress, previews and warnings sent."""
    from ..model import load_model

    job = task.job
    source.check_source()
    model = load_model(job["model"], job.get("model_folder"))
    options = {name: job[name] for name in _OPTIONS if job.get(name) is not None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        translation = model.translate(source, on_step=_StepReport(task), agreement=True, **options)
    for warning in caught:  # ours are for the user; those of the libraries below for the log
        if _LIBRARY in Path(warning.filename).parents:
            task.send("warning", message=str(warning.message))
        else:
            sys.stderr.write(f"{warning.filename}:{warning.lineno}: {warning.message}\n")
    return translation


class _StepReport:
    """`on_step` of the model: passes progress on and ends the run when that is wanted."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._previews = 0
        self._next_preview = 0.0

    def __call__(self, progress: Progress) -> None:
        self._task.check()
        names = ("step", "of", "slices_done", "slices", "eta_s", "device")
        known = {name: getattr(progress, name) for name in names}
        self._task.send("progress", **known, memory=progress.memory_bytes)
        if progress.preview is not None and time.monotonic() >= self._next_preview:
            self._next_preview = time.monotonic() + _PREVIEW_S
            self._previews += 1
            file = self._task.save(f"preview-{self._previews}", progress.preview)
            self._task.send("preview", file=file)
