"""Many translations, one after the other: of volumes of the scene, or of files of a folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from midiffusion.cohort.items import RESULT_ENDING, result_name
from midiffusion.errors import Cancelled, InvalidParameter, MIDiffusionError, UnreadableFile
from midiffusion.images.formats import ENDINGS, READ_ENDINGS, ending
from midiffusion.models.card import ModelCard

from .scene.tables import addRow, addTable
from .volume_files import existingFolder, volumeFiles
from .worker.events import WorkerProgress
from .worker.job import WorkerJob, call

COLUMNS = (
    ("Volume", str),
    ("State", str),
    ("Result", str),
    ("Typical error", float),
    ("Seconds", float),
    ("Message", str),
)
OnProgress = Callable[[WorkerProgress], object]
OnDone = Callable[[Any], object]


class Starter(Protocol):
    """Begins the translation of one item; raises MIDiffusionError when it can't."""

    def __call__(self, onProgress: OnProgress, onDone: OnDone) -> WorkerJob: ...


@dataclass
class BatchItem:
    """One volume of a batch, and what became of it.

    state: waiting, running, done, failed, cancelled. result: name of the volume or of the file
    made. node: the volume, where it is one of the scene. error: its median expected error.
    message: what was wrong, or a warning.
    """

    name: str
    begin: Starter
    state: str = "waiting"
    result: str = ""
    node: Any = None
    error: float | None = None
    seconds: float | None = None
    message: str = ""


class Batch:
    """Runs the items in order. What fails is noted and the next begins; what is finished stays.

    It moves forward by itself where jobs are polled by an event loop, and by `poll` elsewhere.

    Args:
        items: not empty.
        onProgress: called with the batch when something has changed; `current` and `progress` say
            what.
        onDone: called once with the batch.
    """

    def __init__(
        self,
        items: Sequence[BatchItem],
        onProgress: Callable[[Batch], object] | None = None,
        onDone: Callable[[Batch], object] | None = None,
    ) -> None:
        self.items = list(items)
        self.current: BatchItem | None = None
        self.progress: WorkerProgress | None = None
        self.finished = False
        self.table: Any = None  # of the summary, once it is made
        self._onProgress, self._onDone = onProgress, onDone
        self._job: WorkerJob | None = None
        self._stopping = False
        self._since = 0.0

    @property
    def state(self) -> str:
        """running, cancelling or done."""
        return "done" if self.finished else "cancelling" if self._stopping else "running"

    def count(self, state: str) -> int:
        """How many items are in this state."""
        return sum(item.state == state for item in self.items)

    def start(self) -> None:
        self._go()

    def poll(self) -> None:
        """As WorkerJob.poll, for the item under way."""
        if self._job is not None:
            self._job.poll()

    def cancel(self) -> None:
        """Ask for the end: of the item under way, and of what waits."""
        self._stopping = True
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """End at once, for good."""
        self._stopping = True
        if self._job is not None:
            self._job.abandon()

    def _go(self) -> None:
        """Begin items until one is under way or none is left."""
        for item in self.items:
            if self._stopping:
                break
            if item.state != "waiting":
                continue
            self.current, self.progress, self._since = item, None, time.monotonic()
            item.state = "running"
            call(self._onProgress, self)
            try:
                job = item.begin(self._heard, self._ended)
            except MIDiffusionError as error:
                self._note("failed", str(error))
            except Exception as error:
                logging.exception("MIDiffusion: an item of the batch could not start")
                self._note("failed", f"It could not start ({error}).")
            else:
                if not job.finished:
                    self._job = job
                    return
        self._finish()

    def _heard(self, progress: WorkerProgress) -> None:
        self.progress = progress
        call(self._onProgress, self)

    def _ended(self, job: Any) -> None:
        item = self.current
        assert item is not None
        if isinstance(job.error, Cancelled):
            self._stopping = True  # whoever ended one (a scene that is closed) means all
            self._note("cancelled", "")
        elif job.error is not None:
            self._note("failed", str(job.error))
        else:
            item.node = getattr(job, "node", None)
            item.result = job.result["output"] if item.node is None else item.node.GetName()
            item.error = getattr(job, "typicalError", None)
            self._note("done", " ".join(job.warnings))
        if job is self._job:  # else it ended while it was begun, and _go goes on
            self._job = None
            self._go()

    def _note(self, state: str, message: str) -> None:
        assert self.current is not None
        self.current.state, self.current.message = state, message
        self.current.seconds = time.monotonic() - self._since
        call(self._onProgress, self)

    def _finish(self) -> None:
        for item in self.items:
            if item.state == "waiting":
                item.state = "cancelled"
        self.current, self.finished = None, True
        call(self._onDone, self)


def batchItems(
    logic: Any,
    sources: Sequence[Any] | str | Path,
    outputFolder: str | Path | None,
    options: dict[str, Any],
) -> list[BatchItem]:
    """One item for each source: a volume node, a file, or all files of a folder.

    Raises InvalidParameter, UnreadableFile, and what `logic.request` raises.
    """
    forRequest = {name: value for name, value in options.items() if name != "errorMap"}
    card, parameters = logic.request(**forRequest)
    if isinstance(sources, (str, Path)):
        folder, sources = sources, volumeFiles(sources)
        if not sources:
            raise UnreadableFile(
                f"'{folder}' holds no volumes ({', '.join(READ_ENDINGS)}): choose another folder."
            )
    if not sources:
        raise InvalidParameter("There is nothing to translate: choose at least one volume.")
    if not any(isinstance(source, (str, Path)) for source in sources):
        return [
            BatchItem(node.GetName(), partial(_beginNode, logic, node, options)) for node in sources
        ]
    place = existingFolder(outputFolder or "")
    if place is None:
        raise InvalidParameter("Name an existing folder for the translated files.")
    items = []
    for file in map(Path, sources):
        fields = {**parameters, "source_file": str(file.resolve())}
        fields["output_file"] = str(place.resolve() / outputName(file, card))
        items.append(BatchItem(file.name, partial(_beginFile, logic, fields)))
    return items


def outputName(file: Path, card: ModelCard) -> str:
    """Name of the translated file, as `midiffusion batch` gives it: of the source and the model,
    with the source's ending where it can be written, else .nii.gz."""
    found = ending(file.name)
    stem = file.name[: len(file.name) - len(found)]
    return result_name(stem, card.id, found if found in ENDINGS else RESULT_ENDING)


def _beginNode(
    logic: Any, node: Any, options: dict[str, Any], onProgress: OnProgress, onDone: OnDone
) -> WorkerJob:
    job: WorkerJob = logic.start(node, **options, onProgress=onProgress, onDone=onDone)
    return job


def _beginFile(
    logic: Any, fields: dict[str, Any], onProgress: OnProgress, onDone: OnDone
) -> WorkerJob:
    def heard(kind: str, event: dict[str, Any]) -> None:
        if kind == "progress":
            onProgress(WorkerProgress.ofEvent(event))

    job: WorkerJob = logic.begin(
        "translate_file",
        fields,
        name="translation",
        onDone=onDone,
        onEvent=heard,
        key=f"{fields['model']} {fields['device']}",
    )
    return job


def summaryFor(scene: Any) -> Callable[[Batch], None]:
    """What adds the summary of a finished batch to the scene as a table, `batch.table`.

    A scene that has been closed since this was called is another one, and gets none.
    """
    closed: list[bool] = []
    tag = scene.AddObserver(scene.StartCloseEvent, lambda *_: closed.append(True))

    def add(batch: Batch) -> None:
        scene.RemoveObserver(tag)
        if not closed and not scene.IsClosing():
            _addSummary(scene, batch)

    return add


def _addSummary(scene: Any, batch: Batch) -> None:
    table = addTable(scene, "MIDiffusion batch", COLUMNS)
    for item in batch.items:
        state = "not started" if item.seconds is None else item.state
        addRow(table, [item.name, state, item.result, item.error, item.seconds, item.message])
    batch.table = table
