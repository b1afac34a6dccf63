"""Downloads a model into a folder of models.

Fields of `job.json`: `url`, `model_folder`, and `part`, the name of the temporary folder in it
(`download.part_name`). Event on the way: {"event": "progress", "done", "of"}, bytes. "done" carries
`id` and `folder`.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import Cancelled

if TYPE_CHECKING:
    from .task import Task

_PROGRESS_S = 0.1  # between two events


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises as `download.download`."""
    from ...models.download import download

    job = task.job
    # A stalled server keeps us from tidying up before the hard end.
    task.leftovers.append(Path(job["model_folder"]) / job["part"])
    with _Progress(task) as progress:
        entry = download(job["url"], job["model_folder"], part=job["part"], on_progress=progress)
    return {"id": entry.id, "folder": str(entry.folder)}


class _Progress:
    """Sends the latest progress every `_PROGRESS_S`, also while the server stalls."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._latest = (0, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, done: int, of: int) -> None:
        self._task.check()
        self._latest = (done, of)

    def _run(self) -> None:
        sent, ended = (0, 0), False
        while not ended:
            ended = self._ended.wait(_PROGRESS_S)
            latest = self._latest
            if latest[1] and latest != sent:  # 0: the card is not there yet
                sent = latest
                with contextlib.suppress(Cancelled):
                    self._task.send("progress", done=sent[0], of=sent[1])
