"""A cohort in one process: models loaded once; reading, translating and writing overlap."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import Cancelled, UnlikelySource, UnreadableFile
from ..images.io import check_source_file, read_volume
from ..images.volume import Volume
from ..pipeline.options import TranslationOptions
from ..pipeline.target import TargetModel, load_model
from ..pipeline.translate import Translation
from .claims import Claims, remove_stale_parts
from .items import Item
from .results import SIDECAR, beside, digest, is_finished, request, save_result
from .shards import Shard
from .status import DONE, FAILED, SKIPPED, Row, StatusTable
from .thumbnail import thumbnail, thumbnail_path

Result = Callable[[Item, str], Path]


@dataclass
class BatchResult:
    """What became of a run: rows in the order in which they ended. elsewhere: how many items
    another process was working on."""

    rows: list[Row] = field(default_factory=list)
    elsewhere: int = 0

    def count(self, state: str) -> int:
        return sum(row.state == state for row in self.rows)


@dataclass(frozen=True)
class _Read:
    volume: Volume | None
    sha256: str
    error: Exception | None


class Batch:
    """Translates items to models.

    Args:
        items: see `find_items`.
        models: ids or folders of models; loaded once.
        out: folder of the results; made if it isn't there.
        options: of every translation.
        resume: skip results that are finished and verified. Without it they are made anew, but for
            those that another process has made since this run began.
        shard: the part of the items that is ours.
        result: path in `out` of an item's result for a model's id; default: `Item.result`.
        extra: fields for each sidecar by item.

    Raises:
        UnknownModel, CorruptModel, InvalidCard: a model can't be used. Nothing has been done.
    """

    def __init__(
        self,
        items: Sequence[Item],
        models: Sequence[str],
        out: Path,
        options: TranslationOptions,
        *,
        model_folder: Path | None = None,
        resume: bool = False,
        shard: Shard | None = None,
        result: Result | None = None,
        extra: Callable[[Item], dict[str, Any]] = lambda item: {},
    ) -> None:
        shard = shard or Shard()
        self.items, self.out, self.options, self.resume = shard.of(items), out, options, resume
        self.models = {m.card.id: m for m in (load_model(name, model_folder) for name in models)}
        self._result = result or (lambda item, model: item.result(out, model))
        self._extra = extra
        self._status = StatusTable(out, shard.name)
        self._made = BatchResult()
        self._began = time.time()

    def run(self, on_progress: Callable[[int, int, Item], object] | None = None) -> BatchResult:
        """Translate everything; an item that fails does not stop the rest.

        on_progress: called with how many items are done, how many there are, and the next one. What
        it raises ends the run; finished results stay.

        Raises:
            UnwritableTarget, DiskFull: the status table can't be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(self.out)
        with (
            Claims(self.out) as claims,
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as writer,
        ):
            written: Future[None] | None = None
            for done, (item, read) in enumerate(self._ahead(reader)):
                if on_progress is not None:
                    on_progress(done, len(self.items), item)
                if not claims.take(item.name):
                    self._made.elsewhere += 1
                    continue
                for write in self._item(item, read.result()):
                    if written is not None:
                        written.result()  # one volume waits at most: memory stays flat
                    written = writer.submit(write)
                writer.submit(claims.release, item.name)  # after the item's results
            if written is not None:
                written.result()
        return self._made

    def _ahead(self, reader: ThreadPoolExecutor) -> Iterator[tuple[Item, Future[_Read]]]:
        """Items, each with the one after it being read."""
        waiting = reader.submit(self._read, self.items[0]) if self.items else None
        for number, item in enumerate(self.items):
            assert waiting is not None
            current = waiting
            if number + 1 < len(self.items):
                waiting = reader.submit(self._read, self.items[number + 1])
            yield item, current

    def _read(self, item: Item) -> _Read:
        if item.problem:
            return _Read(None, "", UnreadableFile(item.problem))
        try:
            check_source_file(item.source)
            sha256 = digest(item.source)
            if all(self._skipped(item, model, sha256) for model in self.models.values()):
                return _Read(None, sha256, None)
            volume = read_volume(item.source)
            volume.check_source()
        except Exception as error:  # whatever it is, the rest goes on
            return _Read(None, "", error)
        return _Read(volume, sha256, None)

    def _skipped(self, item: Item, model: TargetModel, sha256: str) -> bool:
        result = self._result(item, model.card.id)
        if not self.resume:
            try:  # made by another process since we began
                if beside(result, SIDECAR).stat().st_mtime < self._began:
                    return False
            except OSError:
                return False
        return is_finished(result, request(sha256, model.card, self.options))

    def _item(self, item: Item, read: _Read) -> Iterator[Callable[[], None]]:
        """Translates one item to every model; yields what is left to write."""
        # The backbone is evaluated once for all models.
        drawn: dict[Any, Any] | None = {} if len(self.models) > 1 else None
        for name, model in self.models.items():
            if read.error is not None:
                self._note(item, name, FAILED, error=read.error)
                continue
            if self._skipped(item, model, read.sha256):
                self._note(item, name, SKIPPED)
                continue
            try:
                volume = read.volume or read_volume(item.source)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UnlikelySource)  # in the table
                    made = model.translate(volume, self.options, drawn=drawn)
            except (Cancelled, KeyboardInterrupt):
                raise
            except Exception as error:
                self._note(item, name, FAILED, error=error)
                continue
            requested = request(read.sha256, model.card, self.options)
            yield partial(self._write, item, name, volume, made, requested)

    def _write(
        self, item: Item, model: str, volume: Volume, made: Translation, requested: dict[str, Any]
    ) -> None:
        result = self._result(item, model)
        try:
            picture = thumbnail_path(self.out, result)
            picture.parent.mkdir(exist_ok=True)
            picture.write_bytes(thumbnail(volume, made.volume, made.error_map))
            # Last: it writes the sidecar, with which a result is finished.
            sidecar = save_result(result, made, item.source, requested, self._extra(item))
        except Exception as error:
            self._note(item, model, FAILED, error=error)
            return
        seconds = f"{sidecar['Figures']['seconds']:.2f}"
        self._note(item, model, DONE, seconds=seconds, warnings=" ".join(sidecar["Warnings"]))

    def _note(
        self, item: Item, model: str, state: str, error: Exception | None = None, **more: str
    ) -> None:
        result = ""
        if state != FAILED:
            result = self._result(item, model).relative_to(self.out).as_posix()
        text = "" if error is None else f"{type(error).__name__}: {error}"
        row = Row(item.name, str(item.source), model, result, state, error=text, **more)
        self._status.append(row)
        self._made.rows.append(row)
