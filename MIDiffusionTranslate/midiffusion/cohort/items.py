"""What a cohort consists of: its volumes, and where their results go."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidData, UnreadableFile
from ..images.file_bytes import is_dicom
from ..images.formats import READ_ENDINGS, ending, volume_files

RESULT_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Item:
    """One volume of a cohort.

    name: unique, with "/" between folders; its results are named after it. source: a file, or a
    folder of DICOM files. problem: why it can't be translated, empty if it can.
    """

    name: str
    source: Path
    problem: str = ""

    def result(self, out: Path, model: str) -> Path:
        """The translated volume; the files beside it have the same name and other endings."""
        return out / result_name(self.name, model)


def result_name(name: str, model: str, suffix: str = RESULT_ENDING) -> str:
    """File name of a result; `formats.volume_files` never takes it for a source."""
    return f"{name}_synthetic-{model}{suffix}"


def find_items(place: Path) -> list[Item]:
    """The volumes of a cohort, by name.

    place: a folder (with its subfolders; a folder of DICOM files is one volume), or a list of
    sources: a text file with a path in each line, or a TSV file with a column `source` and, where
    wished for, `name`. Paths are relative to the list's folder.

    Raises:
        UnreadableFile: there is no such folder or list.
        InvalidData: there is no volume in it.
    """
    if not place.exists():
        raise UnreadableFile(f"There is no folder or list {place}: check its name.")
    try:
        found = list(_of_folder(place)) if place.is_dir() else list(_of_list(place))
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{place} can't be read ({error}): check its permissions.") from error
    if not found:
        raise InvalidData(
            f"{place} holds no volumes: give a folder of files ({', '.join(READ_ENDINGS)}) or of "
            "DICOM series, or a list of them."
        )
    return _with_problems(sorted(found, key=lambda item: item.name))


def _of_folder(place: Path) -> Iterator[Item]:
    for folder, subfolders, names in os.walk(place):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        volumes = volume_files(here)
        for path in volumes:
            yield Item(_stem(path.relative_to(place)), path)
        if not volumes and _holds_dicom(here, names):
            yield Item(here.relative_to(place).as_posix() if here != place else place.name, here)


def _holds_dicom(folder: Path, names: list[str]) -> bool:
    """Whether the first visible file is a DICOM file."""
    visible = sorted(name for name in names if not name.startswith(".") and name != "DICOMDIR")
    return bool(visible) and is_dicom(folder / visible[0])


def _of_list(place: Path) -> Iterator[Item]:
    text = place.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if place.suffix.lower() != ".tsv":
        rows = [{"source": line.strip()} for line in lines]
    else:
        rows = list(csv.DictReader(lines, delimiter="\t"))
        if rows and "source" not in rows[0]:
            raise InvalidData(f"{place} has no column 'source': name the column of paths so.")
    for row in rows:
        source = place.parent / (row["source"] or "").strip()
        yield Item((row.get("name") or "").strip() or _stem(Path(source.name)), source)


def _stem(path: Path) -> str:
    text = path.as_posix()
    return text[: len(text) - len(ending(path.name))]


def _with_problems(items: list[Item]) -> list[Item]:
    """Items whose results would have the same name, or lie outside of the results, can't run."""
    first: dict[str, Path] = {}
    checked = []
    for item in items:
        problem, name = "", item.name
        parts = Path(name).parts
        if Path(name).is_absolute() or ".." in parts or not parts:
            problem = f"The name {name!r} would leave the folder of the results: choose another."
        elif name.casefold() in first:
            # The name of the status line must be another one than the first item's.
            name = item.source.name
            problem = (
                f"{item.source} and {first[item.name.casefold()]} have the same name "
                f"'{item.name}': rename one, or give names in a TSV list."
            )
        first.setdefault(item.name.casefold(), item.source)
        checked.append(Item(name, item.source, problem))
    return checked
