"""Downloads a model into a folder of models.

Fields of `job.json`: `url`, `model_folder`, and `part`, the name of the temporary folder in it
(`download.part_name`). Event on the way: {"event": "progress", "done", "of"}, bytes. "done" carries
`id` and `folder`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task

_PROGRESS_S = 0.1  # between two events


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises as `download.download`."""
    from ..download import download

    job, told = task.job, 0.0
    # A server that says nothing keeps us from tidying up before the hard end.
    task.leftovers.append(Path(job["model_folder"]) / job["part"])

    def report(done: int, of: int) -> None:
        nonlocal told
        task.check()
        if of and time.monotonic() >= told + _PROGRESS_S:  # 0: the card is not there yet
            told = time.monotonic()
            task.send("progress", done=done, of=of)

    entry = download(job["url"], job["model_folder"], part=job["part"], on_progress=report)
    return {"id": entry.id, "folder": str(entry.folder)}
