"""Translates the volume that the application wrote as `source.npy`; writes `result.npy` and maps.

Fields of `job.json`: `ijkToRAS` (4x4), `modality`, `model` (id or folder), `model_folder`, and
those of `TranslationOptions`. Events on the way:

    {"event": "progress", "step", "of", "slices_done", "slices", "eta_s", "device", "memory"}
    {"event": "preview", "file"}                 a small float32 [H, W] .npy in the folder
    {"event": "warning", "message"}
    {"event": "done", "result", "error_map", "deviation", "provenance"}
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...images.volume import Volume
    from ...pipeline.target import TargetModel
    from ...pipeline.translate import Translation
    from ...runtime.progress import Progress
    from .task import Task

_LIBRARY = Path(__file__).parents[2]
_PREVIEW_S = 0.2  # between two previews


def run(task: Task) -> dict[str, Any]:
    """See the module."""
    from ...images.volume import Volume

    job = task.job
    made = translated(task, Volume(task.load("source"), job["ijkToRAS"], job.get("modality", "")))
    volumes = {"result": made.volume, "error_map": made.error_map, "deviation": made.deviation}
    files = {
        name: None if volume is None else task.save(name, volume.data)
        for name, volume in volumes.items()
    }
    return {**files, "provenance": made.provenance}


def translated(task: Task, source: Volume) -> Translation:
    """`source` translated as the job says, with progress, previews and warnings sent."""
    from ...pipeline.options import TranslationOptions

    job = task.job
    options = TranslationOptions.from_dict(job)
    source.check_source()
    model = _model(job["model"], job.get("model_folder"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        translation = model.translate(source, options, _StepReport(task))
    for warning in caught:  # ours are for the user; those of the libraries below for the log
        if _LIBRARY in Path(warning.filename).parents:
            task.send("warning", message=str(warning.message))
        else:
            sys.stderr.write(f"{warning.filename}:{warning.lineno}: {warning.message}\n")
    return translation


_loaded: tuple[object, Any] | None = None  # state of the files, and the model read from them


def _model(name: str, model_folder: str | None) -> TargetModel:
    """The model of the last job if its files are unchanged; else it is read."""
    global _loaded
    from ...models.bundle import find_backbone
    from ...models.registry import find
    from ...pipeline.target import load_model

    entry = find(name, model_folder)
    assert entry.card is not None  # find refuses an entry without
    places = (entry.folder, find_backbone(entry.card, entry.folder, model_folder))
    state = [
        (str(file), info.st_mtime_ns, info.st_size)
        for place in places
        for file in sorted(place.iterdir())
        for info in (file.stat(),)
    ]
    if _loaded is None or _loaded[0] != state:
        _loaded = None  # room for the next
        _loaded = (state, load_model(name, model_folder))
    model: TargetModel = _loaded[1]
    return model


class _StepReport:
    """`on_progress` of the model: passes progress on and ends the run when that is wanted."""

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
