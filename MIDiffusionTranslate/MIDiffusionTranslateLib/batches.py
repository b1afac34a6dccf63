"""What a batch is made of: volumes of the scene, or files of a folder; and its summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from midiffusion.card import ModelCard
from midiffusion.errors import InvalidParameter, UnreadableFile

from .batch import Batch, BatchItem, OnDone, OnProgress
from .folders import ENDINGS, existingFolder, volumeFiles
from .job import WorkerJob
from .tables import addRow, addTable
from .workerreport import WorkerProgress

COLUMNS = (
    ("Volume", str),
    ("State", str),
    ("Result", str),
    ("Agreement", float),
    ("Seconds", float),
    ("Message", str),
)


def batchItems(
    logic: Any,
    sources: Sequence[Any] | str | Path,
    outputFolder: str | Path | None,
    options: dict[str, Any],
) -> list[BatchItem]:
    """One item for each source: a volume node, a file, or all files of a folder.

    Raises InvalidParameter, UnreadableFile, and what `logic.request` raises.
    """
    card, parameters = logic.request(**options)
    if isinstance(sources, (str, Path)):
        folder, sources = sources, volumeFiles(sources)
        if not sources:
            raise UnreadableFile(
                f"'{folder}' holds no volumes ({', '.join(ENDINGS)}): choose another folder."
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
    """Name of the translated file: that of the source, what it is, the same ending."""
    ending = next((e for e in ENDINGS if file.name.lower().endswith(e)), "")
    stem = file.name[: len(file.name) - len(ending)]
    target = card.target_modality.removeprefix("MR ").replace(" ", "-")
    return f"{stem}_synthetic-{target}{ending or '.nrrd'}"


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
        "translate_file", fields, name="translation", onDone=onDone, onEvent=heard
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
        addRow(table, [item.name, state, item.result, item.agreement, item.seconds, item.message])
    batch.table = table
