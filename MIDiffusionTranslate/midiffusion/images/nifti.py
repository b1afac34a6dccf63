"""NIfTI-1 and NIfTI-2 (and Analyze 7.5) files.

Of the two matrices of a header, the sform decides where its code is above zero, else the qform, as
in nibabel, FSL, FreeSurfer and SPM. A result carries both of its source, so that it lies where the
source lies in every viewer. Slicer bundles no NIfTI package for Python, hence this module; the
tests compare it with nibabel.

Reference: the header of https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InvalidVolume
from .file_bytes import first_bytes, read_array, unreadable
from .volume import NiftiGeometry, Volume

_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_COMPLEX, _COLOURS = (32, 1792, 2048), {128: 3, 2304: 4}
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # of xyzt_units: metre, micrometre; anything else is mm
_DESCRIPTION = 79  # bytes
_LEVEL = 4  # of gzip: float data gain little from more

# Fields of both versions: name, format and offset of NIfTI-1, of NIfTI-2.
_FIELDS = {
    "dim": ("8h", 40, "8q", 16),
    "datatype": ("h", 70, "h", 12),
    "pixdim": ("8f", 76, "8d", 104),
    "vox_offset": ("f", 108, "q", 168),
    "slope": ("f", 112, "d", 176),
    "intercept": ("f", 116, "d", 184),
    "units": ("B", 123, "i", 500),
    "qform_code": ("h", 252, "i", 344),
    "sform_code": ("h", 254, "i", 348),
    "quaternion": ("6f", 256, "6d", 352),
    "sform": ("12f", 280, "12d", 400),
}
_SIZES = (348, 540)  # bytes: NIfTI-1, NIfTI-2


@dataclass(frozen=True)
class _Header:
    """One header: the byte order ("<" or ">"), whether it is NIfTI-2, whether it is Analyze 7.5,
    and the values of `_FIELDS`."""

    order: str
    second: bool
    analyze: bool
    values: dict[str, tuple[float, ...]]

    def one(self, name: str) -> float:
        return self.values[name][0]


def read_nifti(path: Path, frame: int | None = None) -> Volume:
    """One volume; frame: of a series, from 0.

    Raises UnreadableFile, and InvalidVolume for colour, complex, 2-D images, and for a series
    without `frame`.
    """
    header_path, data_path = _pair(path)
    header = _header(header_path)
    shape, frames = _shape(path, header)
    dtype = _dtype(path, header)
    at = chosen_frame(path, frames, frame)
    single = header_path == data_path
    offset = header.one("vox_offset")
    offset = int(offset) if np.isfinite(offset) and offset > 0 else 0
    if single:
        offset = max(offset, 544 if header.second else 352)
    count = int(np.prod(shape, dtype=object))
    if count == 0:
        raise InvalidVolume(f"{path} is empty ({shape[2]} x {shape[1]} x {shape[0]} voxels).")
    data = read_array(data_path, offset, count * frames, dtype) if frames == 1 else None
    if data is None:
        read_array(data_path, offset, 0, dtype, skip=count * frames)  # all frames are there
        data = read_array(data_path, offset, count, dtype, skip=count * at)
    data = _scaled(data.astype(dtype.newbyteorder("="), copy=False), header).reshape(shape)
    geometry = _geometry(header)
    matrix, placed = geometry.matrix(shape)
    notes = () if placed else (_NO_PLACE.format(path.name),)
    return Volume(data, matrix, geometry=geometry, notes=notes)


_NO_PLACE = (
    "{} says nothing of its place or orientation (the codes of its qform and sform are 0): "
    "its axes are taken for left, anterior, superior."
)


def chosen_frame(path: Path, frames: int, frame: int | None) -> int:
    """The index of the volume to read. Raises InvalidVolume for a series without `frame`, and for
    a frame that is not there."""
    if frame is None:
        if frames > 1:
            raise InvalidVolume(
                f"{path} is a series of {frames} volumes: choose one of them "
                f"(--frame 0 to {frames - 1})."
            )
        return 0
    if not 0 <= frame < frames:
        raise InvalidVolume(
            f"{path} has no frame {frame}: it holds {frames}, numbered from 0 to {frames - 1}."
        )
    return frame


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of header and data: the same one, or .hdr and .img."""
    name = path.name.lower()
    packed = ".gz" if name.endswith(".gz") else ""
    stem = path.name[: len(path.name) - len(packed)]
    if not stem.lower().endswith((".hdr", ".img")):
        return path, path
    found = []
    for ending in (".hdr", ".img"):
        options = [ending, ending.upper()] if stem[-3:].islower() else [ending.upper(), ending]
        names = [stem[:-4] + e + p for e in options for p in (packed, "" if packed else ".gz")]
        there = [path.with_name(n) for n in names if path.with_name(n).is_file()]
        if not there:
            raise InvalidVolume(
                f"{path} is one of two files, and {path.with_name(names[0]).name} is missing: put "
                "both into one folder."
            )
        found.append(there[0])
    return found[0], found[1]


def _header(path: Path) -> _Header:
    raw = first_bytes(path, _SIZES[1])
    for order in "<>":
        size = struct.unpack_from(order + "i", raw)[0] if len(raw) >= _SIZES[0] else 0
        if size in _SIZES and len(raw) >= size:
            break
    else:
        raise unreadable(path)
    second = size == _SIZES[1]
    magic = raw[4:7] if second else raw[344:347]
    analyze = magic not in (b"n+1", b"ni1", b"n+2", b"ni2")
    if analyze and (second or path.name.lower().endswith((".nii", ".nii.gz"))):
        raise unreadable(path)
    values = {}
    for name, (form, offset, form2, offset2) in _FIELDS.items():
        form, offset = (form2, offset2) if second else (form, offset)
        values[name] = struct.unpack_from(order + form, raw, offset)
    return _Header(order, second, analyze, values)


def _shape(path: Path, header: _Header) -> tuple[tuple[int, int, int], int]:
    """Voxels along k, j, i, and the number of volumes."""
    rank, *sizes = (int(n) for n in header.values["dim"])
    if not 1 <= rank <= 7 or min(sizes[:rank]) < 0:
        raise unreadable(path)
    sizes = [n if at < rank else 1 for at, n in enumerate(sizes)]
    if any(n > 1 for n in sizes[4:]):
        raise InvalidVolume(
            f"{path} has {int(np.prod(sizes[4:], dtype=object))} values per voxel (colour or "
            "vectors): one scalar volume is needed."
        )
    if rank < 3:
        raise InvalidVolume(
            f"{path} has {rank} dimensions: one scalar volume with 3 is needed, not a picture."
        )
    return (sizes[2], sizes[1], sizes[0]), max(sizes[3], 1)


def _dtype(path: Path, header: _Header) -> np.dtype:
    code = int(header.one("datatype"))
    if code in _COLOURS:
        raise InvalidVolume(
            f"{path} has {_COLOURS[code]} values per voxel (colour or vectors): one scalar volume "
            "is needed."
        )
    if code in _COMPLEX:
        raise InvalidVolume(f"{path} has complex values: one scalar volume is needed.")
    if code not in _TYPES:
        raise unreadable(path)
    return np.dtype(header.order + _TYPES[code])


def _scaled(data: np.ndarray, header: _Header) -> np.ndarray:
    slope, intercept = header.one("slope"), header.one("intercept")
    if header.analyze or slope == 0 or not np.isfinite(slope):
        return data
    intercept = intercept if np.isfinite(intercept) else 0.0
    if (slope, intercept) == (1.0, 0.0):
        return data
    scaled: np.ndarray = data * np.float64(slope)
    return (scaled + intercept).astype(np.float32)


def _geometry(header: _Header) -> NiftiGeometry:
    fields = header.values
    pixdim = np.array(fields["pixdim"][1:4])
    units = 0 if header.analyze else int(header.one("units"))
    return NiftiGeometry(
        qform_code=0 if header.analyze else int(header.one("qform_code")),
        sform_code=0 if header.analyze else int(header.one("sform_code")),
        quaternion=fields["quaternion"],
        handedness=-1.0 if fields["pixdim"][0] == -1 else 1.0,
        spacing=tuple(np.abs(np.where(np.isfinite(pixdim), pixdim, 0)).tolist()),
        sform=fields["sform"],
        units=units,
        mm_per_unit=_MM_PER_UNIT.get(units & 7, 1.0),
    )


def write_nifti(path: Path, volume: Volume, description: str) -> None:
    """NIfTI-1, little endian, compressed where the name ends in .gz. The matrices are those of
    `volume.geometry`; without it both are `ijkToRAS` (of a sheared volume, the sform alone).

    Raises OSError, and InvalidVolume for values of a type that the format has not.
    """
    codes = {name: code for code, name in _TYPES.items()}
    code = codes.get(volume.data.dtype.str[1:])
    if code is None:
        raise InvalidVolume(
            f"Values of type {volume.data.dtype} can't be written: convert them to float32."
        )
    if max(volume.data.shape) > np.iinfo(np.int16).max:
        raise InvalidVolume("NIfTI-1 has at most 32767 voxels along an axis: write .nrrd instead.")
    geometry = volume.geometry or NiftiGeometry.of(volume)
    head = bytearray(352)
    values: dict[str, tuple[float, ...]] = {
        "dim": (3, *volume.data.shape[::-1], 1, 1, 1, 1),
        "datatype": (code,),
        "pixdim": (geometry.handedness, *geometry.written_spacing(), 1, 1, 1, 1),
        "vox_offset": (352,),
        "slope": (1,),
        "intercept": (0,),
        "units": (geometry.units & 7 or 2,),
        "qform_code": (geometry.qform_code,),
        "sform_code": (geometry.sform_code,),
        "quaternion": geometry.quaternion,
        "sform": geometry.sform,
    }
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<c", head, 38, b"r")
    struct.pack_into("<h", head, 72, 8 * volume.data.dtype.itemsize)
    for name, numbers in values.items():
        struct.pack_into("<" + _FIELDS[name][0], head, int(_FIELDS[name][1]), *numbers)
    # It may end within a character.
    text = description.encode()[:_DESCRIPTION].decode(errors="ignore").encode()
    head[148 : 148 + len(text)] = text
    head[344:347] = b"n+1"
    data = np.ascontiguousarray(volume.data, volume.data.dtype.newbyteorder("<"))
    with open(path, "wb") as file:
        if not path.name.lower().endswith(".gz"):
            file.write(head)
            file.write(data.data)
            return
        with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
            packed.write(head)
            for plane in data:
                packed.write(plane.data)
