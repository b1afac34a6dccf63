"""`status.tsv`: a line for each item and model that was tried.

Lines are only ever appended, each in one write. The last line of an item and model counts. Each
shard has a table of its own, so that shards on several machines never write to one file.
"""

from __future__ import annotations

import csv
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ..errors import DiskFull, UnwritableTarget, disk_is_full

DONE, FAILED, SKIPPED = "done", "failed", "skipped"


@dataclass(frozen=True)
class Row:
    """result: path in the folder of the results. state: done, failed or skipped (finished before).
    seconds: of the translation. error: its code and sentence."""

    item: str
    source: str
    model: str
    result: str
    state: str
    seconds: str = ""
    warnings: str = ""
    error: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


class StatusTable:
    """The table of one shard in the folder of the results.

    Args:
        out: folder of the results.
        shard: "" for the only one, else for example "2-of-8".
    """

    def __init__(self, out: Path, shard: str = "") -> None:
        self.path = out / (f"status_{shard}.tsv" if shard else "status.tsv")

    def append(self, row: Row) -> None:
        """Raises UnwritableTarget, DiskFull."""
        line = "\t".join(" ".join(text.split()) for text in astuple(row)) + "\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                if os.fstat(descriptor).st_size == 0:
                    line = "\t".join(COLUMNS) + "\n" + line
                os.write(descriptor, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            kind = DiskFull if disk_is_full(error) else UnwritableTarget
            raise kind(f"{self.path} can't be written ({error}).") from error


def read_status(out: Path) -> list[Row]:
    """The last line of each item and model from the tables of all shards, by item."""
    latest: dict[tuple[str, str], Row] = {}
    tables = sorted(out.glob("status*.tsv"), key=lambda path: path.stat().st_mtime)
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            for values in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if values["item"] == "item" or None in values.values():
                    continue  # two processes wrote the header, or a line was cut
                row = Row(**{name: values[name] for name in COLUMNS})
                before = latest.get((row.item, row.model))
                if before is None or row.state != SKIPPED:  # "skipped" repeats an older "done"
                    latest[row.item, row.model] = row
    return [latest[key] for key in sorted(latest)]
