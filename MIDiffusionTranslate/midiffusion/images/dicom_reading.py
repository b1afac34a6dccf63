"""A DICOM series as a volume: single-frame files of one series, or one enhanced multi-frame file.

Place and spacing come from the position and orientation of every slice, never from the slice
thickness. Slices whose positions run aside (a tilted gantry) make a sheared grid. What is no
regular stack of slices is refused in one sentence.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ..errors import UnreadableFile
from .dicom_slices import ijk_to_lps, number, pixels, slices_of, stacks
from .file_bytes import BoundedFile
from .itk_files import LPS_TO_RAS
from .nifti import chosen_frame
from .volume import Volume

_MOST_FILES = 50_000


@dataclass(frozen=True, eq=False)
class DicomSource:
    """What a result takes over from its source: the header of the first slice, without pixels, and
    (SOP class UID, SOP instance UID) of every file."""

    header: Dataset
    references: tuple[tuple[str, str], ...]


def read_dicom(path: Path, frame: int | None = None, series: str | None = None) -> Volume:
    """The volume of a folder or file.

    Args:
        path: a folder, searched with its subfolders, or one file.
        frame: which of several volumes at the same place (times, echoes), from 0.
        series: number or UID of a series, where there are several.

    Raises:
        UnreadableFile: no DICOM images, several series and `series` names none of them, or pixels
            that can't be decoded.
        InvalidVolume: not one regular stack of slices.
    """
    with _without_chatter():
        headers = _headers(path)
        chosen = _chosen_series(path, headers, series)
        slices = [one for file, header in chosen for one in slices_of(file, header)]
        stack = stacks(path, slices)
        at = chosen_frame(path, len(stack[0]), frame)
        planes = [group[at] for group in stack]
        matrix = LPS_TO_RAS @ ijk_to_lps(path, planes)
        data = pixels(path, planes)
    references = {str(one.header.SOPInstanceUID): str(one.header.SOPClassUID) for one in planes}
    source = DicomSource(planes[0].header, tuple((c, i) for i, c in references.items()))
    modality = str(planes[0].header.get("Modality", ""))
    return Volume(data, matrix, modality, dicom=source)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """pydicom's remarks about irregular values go nowhere."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _headers(path: Path) -> list[tuple[Path, Dataset]]:
    """The images below a folder, each instance once. Hidden files are left out."""
    if path.is_file():
        files = [path]
    else:
        files = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
    if len(files) > _MOST_FILES:
        raise UnreadableFile(f"{path} holds more than {_MOST_FILES} files: name a folder below it.")
    found: dict[str, tuple[Path, Dataset]] = {}
    for file in files:
        header = _header(file)
        if header is not None:
            found.setdefault(str(header.SOPInstanceUID), (file, header))
    if not found:
        raise UnreadableFile(
            f"{path} holds no DICOM images: give a folder of them, or a file of another format."
        )
    return list(found.values())


def _header(file: Path) -> Dataset | None:
    """None for what is no DICOM image."""
    forced = file.suffix.lower() in (".dcm", ".ima")  # old files have no preamble
    try:
        with BoundedFile(file) as opened:
            header = pydicom.dcmread(opened, stop_before_pixels=True, force=forced)
        needed = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "Rows", "Columns")
        return header if all(header.get(name) for name in needed) else None
    except (InvalidDicomError, OSError, ValueError, KeyError, AttributeError, EOFError, TypeError):
        return None
    except Exception as failure:  # a damaged header fails in pydicom in any way
        if isinstance(failure, MemoryError):
            raise
        return None


def _chosen_series(
    path: Path, headers: list[tuple[Path, Dataset]], series: str | None
) -> list[tuple[Path, Dataset]]:
    by_uid: dict[str, list[tuple[Path, Dataset]]] = {}
    for file, header in headers:
        by_uid.setdefault(str(header.SeriesInstanceUID), []).append((file, header))
    if series is not None:
        named = {
            uid: found
            for uid, found in by_uid.items()
            if series in (uid, str(found[0][1].get("SeriesNumber", "")))
        }
        if len(named) == 1:
            return next(iter(named.values()))
        reason = "no series" if not named else f"{len(named)} series"
        raise UnreadableFile(
            f"{path} holds {reason} {series!r}: give the number or the UID of one of "
            f"{_listed(by_uid)} (--series)."
        )
    # Pictures of screens and single scouts are no volumes.
    volumes = {uid: found for uid, found in by_uid.items() if _may_be_volume(found)} or by_uid
    if len(volumes) > 1:
        raise UnreadableFile(
            f"{path} holds {len(volumes)} series: choose one of {_listed(volumes)} (--series)."
        )
    return next(iter(volumes.values()))


def _may_be_volume(found: list[tuple[Path, Dataset]]) -> bool:
    frames = sum(int(header.get("NumberOfFrames") or 1) for _, header in found)
    placed = (
        "ImagePositionPatient" in found[0][1] or "PerFrameFunctionalGroupsSequence" in found[0][1]
    )
    return frames > 1 and placed


def _listed(by_uid: dict[str, list[tuple[Path, Dataset]]]) -> str:
    texts = []
    for uid, found in sorted(
        by_uid.items(), key=lambda item: number(item[1][0][1], "SeriesNumber")
    ):
        header = found[0][1]
        frames = sum(int(one.get("NumberOfFrames") or 1) for _, one in found)
        name = str(header.get("SeriesDescription", "")) or "no description"
        label = header.get("SeriesNumber")
        texts.append(f"{uid if label is None else label} ({name}, {frames} images)")
    return "; ".join(texts)
