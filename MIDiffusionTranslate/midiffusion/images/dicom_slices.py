"""Slices of a DICOM series: their places, the grid that they make, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from ..errors import InvalidVolume, UnreadableFile
from .file_bytes import BoundedFile
from .itk_files import quiet

_SAME_DIRECTION = 1e-3  # of direction cosines
_EVEN = 0.02  # share of the spacing by which slices may lie off, and at least:
_EVEN_MM = 0.05
_MOST_COMPRESSION = 2000  # of any transfer syntax, with room


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame: where its pixels are, and its place (LPS, mm).

    axes: directions of columns and rows. spacing: of rows, of columns. at: what tells frames at one
    position apart (time, echo, number).
    """

    header: Dataset
    path: Path
    frame: int
    position: np.ndarray
    axes: np.ndarray
    spacing: np.ndarray
    slope: float
    intercept: float
    at: tuple[float, ...]


def number(header: Dataset, name: str) -> float:
    try:
        return float(header.get(name))
    except (TypeError, ValueError):
        return 0.0


def slices_of(path: Path, header: Dataset) -> list[Slice]:
    """The frames of one file. Raises InvalidVolume where a place is missing."""
    if int(header.get("SamplesPerPixel") or 1) > 1:
        raise InvalidVolume(f"{path} is a colour picture: one scalar series is needed.")
    count = int(header.get("NumberOfFrames") or 1)
    frames = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    if frames is not None and len(frames) != count or count < 1:
        raise InvalidVolume(
            f"{path} describes {len(frames or [])} of its {count} frames: it is damaged."
        )
    if frames is None and count > 1:
        raise InvalidVolume(f"{path} holds {count} pictures without a place: it is no volume.")
    made = []
    for index in range(count):
        groups = [frames[index], shared[0]] if frames is not None else []
        try:
            made.append(_slice(path, header, index, groups))
        except (AttributeError, TypeError, ValueError, IndexError, KeyError) as failure:
            raise InvalidVolume(
                f"{path} doesn't say where its picture lies in the patient (position, orientation "
                "and pixel spacing): it is no slice of a volume."
            ) from failure
    return made


def _slice(path: Path, header: Dataset, index: int, groups: list[Dataset]) -> Slice:
    def of(sequence: str) -> Dataset:
        """The functional group of a frame; of a single-frame file the file."""
        for group in groups:
            if sequence in group:
                return group[sequence][0]
        return Dataset() if groups else header

    position = np.array(of("PlanePositionSequence").ImagePositionPatient, np.float64)
    axes = np.reshape(
        np.array(of("PlaneOrientationSequence").ImageOrientationPatient, float), (2, 3)
    )
    spacing = np.array(of("PixelMeasuresSequence").PixelSpacing, np.float64)
    lengths = np.linalg.norm(axes, axis=1)
    if position.shape != (3,) or spacing.shape != (2,) or not (spacing > 0).all():
        raise ValueError("geometry")
    if not np.isfinite(position).all() or np.abs(lengths - 1).max() > 0.01:
        raise ValueError("geometry")
    transform = of("PixelValueTransformationSequence")
    slope, intercept = transform.get("RescaleSlope"), transform.get("RescaleIntercept")
    content = of("FrameContentSequence")
    order = [number(content, "TemporalPositionIndex")]
    order += [number(header, name) for name in ("TemporalPositionIdentifier", "EchoTime")]
    order += [number(header, name) for name in ("AcquisitionNumber", "InstanceNumber")]
    return Slice(
        header,
        path,
        index,
        position,
        axes / lengths[:, None],
        spacing,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        (*order, float(index)),
    )


def stacks(path: Path, slices: list[Slice]) -> list[list[Slice]]:
    """The slices by position along their normal, those at one position in the order of time."""
    first = slices[0]
    for one in slices:
        if np.abs(one.axes - first.axes).max() > _SAME_DIRECTION:
            raise InvalidVolume(
                f"{path} holds slices of several orientations (a localizer?): it is no volume, "
                "choose another series."
            )
        same = (one.header.Rows, one.header.Columns) == (first.header.Rows, first.header.Columns)
        if not same or np.abs(one.spacing - first.spacing).max() > 1e-3:
            raise InvalidVolume(f"{path} holds slices of several sizes: it is no regular volume.")
    normal = np.cross(*first.axes)
    groups: list[list[Slice]] = []
    for one in sorted(slices, key=lambda s: float(s.position @ normal)):
        if groups and abs(float((one.position - groups[-1][0].position) @ normal)) < 1e-2:
            groups[-1].append(one)
        else:
            groups.append([one])
    for group in groups:
        group.sort(key=lambda s: s.at)
    counts = {len(group) for group in groups}
    if len(counts) > 1:
        raise InvalidVolume(
            f"{path} holds {min(counts)} to {max(counts)} slices at the same position: slices are "
            "missing, or it mixes several acquisitions."
        )
    if len(groups) < 2:
        raise InvalidVolume(f"{path} holds one slice only: a volume is needed.")
    return groups


def ijk_to_lps(path: Path, planes: list[Slice]) -> np.ndarray:
    """ijk to LPS, mm. Raises InvalidVolume for slices that are not evenly spaced along a line."""
    first = planes[0]
    positions = np.array([one.position for one in planes])
    normal = np.cross(*first.axes)
    steps = np.diff(positions @ normal)
    usual = float(np.median(steps))
    tolerance = max(_EVEN_MM, _EVEN * usual)
    wide = np.flatnonzero(steps > 1.5 * usual)
    if wide.size and np.abs(steps[wide] / usual - np.round(steps[wide] / usual)).max() < 0.1:
        at = positions[wide[0]] @ normal
        raise InvalidVolume(
            f"{path}: slices are missing at {wide.size} places (the first {at:.1f} mm along the "
            f"stack, whose slices lie {usual:g} mm apart): copy the whole series."
        )
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    off = positions - (positions[0] + np.arange(len(planes))[:, None] * step)
    if np.abs(steps - usual).max() > tolerance or np.abs(off).max() > 2 * tolerance:
        raise InvalidVolume(
            f"{path}: the slices lie {steps.min():.2f} to {steps.max():.2f} mm apart or shifted "
            "against each other: resample the series to even spacing."
        )
    matrix = np.eye(4)
    matrix[:3, 0] = first.axes[0] * first.spacing[1]
    matrix[:3, 1] = first.axes[1] * first.spacing[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = positions[0]
    return matrix


def pixels(path: Path, planes: list[Slice]) -> np.ndarray:
    """[k, j, i], rescaled slice by slice: int16 where all values are whole numbers within it, else
    float32."""
    shape = (len(planes), int(planes[0].header.Rows), int(planes[0].header.Columns))
    stored: dict[Path, np.ndarray] = {}
    for file in dict.fromkeys(one.path for one in planes):
        promised = shape[1] * shape[2] * max(one.frame + 1 for one in planes if one.path == file)
        if promised > file.stat().st_size * _MOST_COMPRESSION:
            raise _undecodable(file)
    data = np.empty(shape, np.float32)
    for one, target in zip(planes, data, strict=True):
        if one.path not in stored:
            stored.clear()  # one file at a time: many have one frame only
            stored[one.path] = _decoded(one.path, shape[1:])
        frames = stored[one.path]
        if one.frame >= len(frames):
            raise _undecodable(one.path)
        target[:] = frames[one.frame]
        target *= np.float32(one.slope)
        target += np.float32(one.intercept)
        if one.header.get("PhotometricInterpretation") == "MONOCHROME1":  # bright is dark
            target *= -1
    if not np.isfinite(data).all():
        raise InvalidVolume(f"{path} has a rescale slope or intercept that is no number.")
    low, high = float(data.min()), float(data.max())
    if low >= -32768 and high <= 32767 and (data == np.round(data)).all():
        return data.astype(np.int16)
    return data


def _decoded(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Stored values, [frames, j, i]. GDCM decodes compressions that pydicom can't; it takes data
    that end early for whole ones, so it gets nothing else."""
    header = Dataset()
    try:
        with BoundedFile(file) as opened:
            header = pydicom.dcmread(opened, force=True)
        pixels = np.asarray(header.pixel_array)
    except MemoryError:
        raise
    except Exception as failure:  # pydicom names no common base for what decoders raise
        if not _is_compressed(header):
            raise _undecodable(file) from failure
        try:
            with quiet():
                image = sitk.ReadImage(str(file))
        except RuntimeError as refused:
            raise _undecodable(file) from refused
        pixels = sitk.GetArrayFromImage(image).astype(np.float32)
        # GDCM has rescaled already.
        intercept, slope = header.get("RescaleIntercept"), header.get("RescaleSlope")
        pixels = (pixels - float(intercept or 0)) / float(slope or 1)
    if pixels.shape[-2:] != shape:
        raise _undecodable(file)
    return pixels.reshape(-1, *shape)


def _is_compressed(header: Dataset) -> bool:
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    return bool(syntax is not None and syntax.is_transfer_syntax and syntax.is_encapsulated)


def _undecodable(file: Path) -> UnreadableFile:
    return UnreadableFile(
        f"The pixels of {file} can't be decoded: the file is damaged, or compressed in a way that "
        "is not supported."
    )
