"""NRRD and MetaImage files (.nrrd, .nhdr, .mha, .mhd), through SimpleITK.

ITK takes a stream that ends early for a whole one, and allocates whatever a header promises. So
the header is read here first, and compared with the data.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InvalidVolume, UnreadableFile
from .file_bytes import check_deflated, check_size, unreadable
from .nifti import chosen_frame
from .volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER = 1 << 20  # bytes: no text header is longer
_MOST_AXES = 16
_MM_PER_UNIT = {"m": 1000.0, "cm": 10.0, "um": 0.001}

_NRRD_BYTES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, ushort, "
    "unsigned short, unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t, ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_META_BYTES = {
    "CHAR": 1,
    "UCHAR": 1,
    "SHORT": 2,
    "USHORT": 2,
    "INT": 4,
    "UINT": 4,
    "LONG": 4,
    "ULONG": 4,
    "LONG_LONG": 8,
    "ULONG_LONG": 8,
    "FLOAT": 4,
    "DOUBLE": 8,
}


def read_itk(path: Path, frame: int | None = None) -> Volume:
    """One volume; frame: of a series (a fourth axis, or one of kind "list"), from 0.

    Raises UnreadableFile, and InvalidVolume for colour, 2-D and higher images, and for a series
    without `frame`.
    """
    _check_complete(path)
    with quiet(), nameable(path) as named, _without_units(named) as (readable, mm_per_unit):
        try:
            image = sitk.ReadImage(str(readable))
        except RuntimeError as failure:
            raise _refusal(path, str(failure)) from failure
    volume = volume_of(image, path, frame)
    volume.ijkToRAS[:3] *= mm_per_unit
    return volume


def volume_of(image: sitk.Image, path: Path, frame: int | None = None) -> Volume:
    """The volume that SimpleITK has read from `path`, by which the errors name it.

    Raises InvalidVolume unless it is scalar and 3-D, or a series of such and `frame` names one.
    """
    parts = image.GetNumberOfComponentsPerPixel()
    kind = "NRRD_kinds[pixel]"
    if parts > 1 and image.HasMetaDataKey(kind) and image.GetMetaData(kind) in ("list", "time"):
        image = sitk.VectorIndexSelectionCast(image, chosen_frame(path, parts, frame))
    elif parts > 1:
        raise InvalidVolume(
            f"{path} has {parts} values per voxel (colour or vectors): one scalar volume is needed."
        )
    elif image.GetDimension() == 4:
        size = list(image.GetSize())
        at = chosen_frame(path, size[3], frame)
        image = sitk.Extract(image, [*size[:3], 0], [0, 0, 0, at])
    elif image.GetDimension() == 3:
        chosen_frame(path, 1, frame)
    if image.GetDimension() != 3:
        raise InvalidVolume(
            f"{path} has {image.GetDimension()} dimensions: one scalar volume with 3 is needed."
        )
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), LPS_TO_RAS @ lps)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """ITK's warnings, and what its libraries print by themselves, go nowhere."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextlib.contextmanager
def nameable(path: Path) -> Iterator[Path]:
    """The path, or a link to it that SimpleITK can be given: it ends the process for a name that is
    not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="midiffusion-") as folder:
            link = Path(folder) / "folder"
            link.symlink_to(path.parent.absolute(), target_is_directory=True)
            try:
                path.name.encode()
            except UnicodeEncodeError:
                link = Path(folder) / f"volume{path.suffix}"
                link.symlink_to(path.absolute())
                yield link
            else:
                yield link / path.name
        return
    yield path


@contextlib.contextmanager
def _without_units(path: Path) -> Iterator[tuple[Path, float]]:
    """A header that ITK reads, and the unit of its space in mm.

    ITK refuses an NRRD with "units" beside directions, and "space units" that are not quoted. So
    such a header is copied to a temporary folder without them, and refers to the data.
    """
    with open(path, "rb") as file:
        head = file.read(_HEADER) if file.read(4) == b"NRRD" else b""
    lines = ("NRRD" * bool(head) + head.partition(b"\n\n")[0].decode("latin-1")).split("\n")
    units = [line for line in lines if re.match(r"(space )?units:", line)]
    if not units:
        yield path, 1.0
        return
    names = {word.strip('"') for word in units[0].partition(":")[2].split()}
    mm_per_unit = _MM_PER_UNIT.get(names.pop(), 1.0) if len(names) == 1 else 1.0
    kept = [line.rstrip("\r") for line in lines if line not in units]
    with tempfile.TemporaryDirectory(prefix="midiffusion-") as folder:
        header = Path(folder) / "header.nhdr"
        if any(re.match(r"data ?file:", line, re.I) for line in kept):
            header = path.with_name(path.name)  # it refers to files beside it: ITK decides
        else:
            kept += [f"line skip: {len(lines) + 1}", f"data file: {path.resolve()}", ""]
            header.write_text("\n".join(kept), encoding="latin-1")
        yield header, mm_per_unit


def _refusal(path: Path, reason: str) -> UnreadableFile | InvalidVolume:
    if "pacing" in reason or "determinant" in reason:
        return InvalidVolume(f"{path} has an axis without extent: correct its header.")
    return unreadable(path)


def _check_complete(path: Path) -> None:
    """Raises UnreadableFile where the data are shorter than the header says, or the header can't be
    read."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER)
        check = _check_nrrd if head.startswith(b"NRRD") else _check_meta
        check(path, head)
    except OSError as failure:
        raise unreadable(path) from failure
    except (ValueError, KeyError, IndexError, OverflowError) as failure:
        raise unreadable(path) from failure


def _check_nrrd(path: Path, head: bytes) -> None:
    text, offset = head, len(head)
    for end in (b"\n\n", b"\r\n\r\n"):
        at = head.find(end)
        if 0 <= at < offset:
            text, offset = head[:at], at + len(end)
    fields = {}
    for line in text.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower().replace(" ", "")] = value.strip()
    sizes = [int(word) for word in fields["sizes"].split()]
    if not 1 <= len(sizes) <= _MOST_AXES or min(sizes) < 1:
        raise ValueError("sizes")
    kind = fields["type"].lower()
    widths = [n for n, names in _NRRD_BYTES.items() if kind in names.split(", ")]
    promised = math.prod(sizes) * widths[0]
    files = fields.get("datafile")
    encoding = fields.get("encoding", "raw").lower()
    if files is None:
        _check_data(path, [path], offset, promised, encoding)
    else:
        parts = _listed(path, files, head.decode("latin-1").splitlines())
        _check_data(path, parts, 0, promised, encoding)


def _check_data(path: Path, parts: list[Path], offset: int, promised: int, encoding: str) -> None:
    """Compares what all files hold behind `offset` with the promise; what is not known to be raw or
    compressed is left to ITK, but for a size that no file can hold."""
    each = -(-promised // len(parts))
    for part in parts:
        if not part.is_file():
            raise UnreadableFile(f"{path} needs the file {part.name}, which is not beside it.")
        if encoding in ("gz", "gzip"):
            check_deflated(part, offset, each)
        elif encoding == "raw":
            check_size(part, offset + each)
        elif each > os.path.getsize(part) * 2000:
            raise unreadable(path)


def _listed(path: Path, files: str, lines: list[str]) -> list[Path]:
    """The data files of a header: one, a pattern with first and last number, or a list."""
    words = files.split()
    if words[0].upper() == "LIST":
        at = [n for n, line in enumerate(lines) if re.search(r"LIST", line, re.I)][0]
        names = [line.strip() for line in lines[at + 1 :] if line.strip()]
    elif len(words) >= 3 and re.fullmatch(r".*%\d*d.*", words[0]):
        first, last, step = (int(word) for word in (*words[1:3], *(words[3:4] or ["1"])))
        if step == 0 or abs(last - first) > 100_000:
            raise ValueError("numbers of files")
        numbers = range(first, last + (1 if step > 0 else -1), step)
        names = [words[0] % number for number in numbers]
    else:
        names = [files]
    if not names:
        raise ValueError("no data files")
    return [path.parent / name for name in names]


def _check_meta(path: Path, head: bytes) -> None:
    fields: dict[str, str] = {}
    at = 0
    while "elementdatafile" not in fields:
        end = head.index(b"\n", at)
        name, equals, value = head[at:end].decode("latin-1").partition("=")
        if not equals:
            raise ValueError("not a line of a MetaImage header")
        fields[name.strip().lower()] = value.strip()
        at = end + 1
    sizes = [int(float(word)) for word in fields["dimsize"].split()]
    axes = int(fields["ndims"])
    if not 1 <= axes <= _MOST_AXES or len(sizes) < axes or min(sizes) < 1:
        raise ValueError("sizes")
    kind = fields["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY")
    promised = math.prod(sizes[:axes]) * _META_BYTES[kind]
    promised *= int(fields.get("elementnumberofchannels", "1"))
    files = fields["elementdatafile"]
    local = files.upper() == "LOCAL"
    lines = head[: at + _HEADER].decode("latin-1").splitlines()
    parts = [path] if local else _listed(path, files, lines)
    offset = at if local else max(0, int(float(fields.get("headersize", "0"))))
    encoding = "raw"
    if fields.get("compresseddata", "false").lower() in ("true", "1"):
        encoding = "gz"
    elif fields.get("binarydata", "true").lower() in ("false", "0"):
        encoding = "text"
    _check_data(path, parts, offset, promised, encoding)
