"""Volumes in files: one module per format reads them, this one chooses it, and writes whole files
or none."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DiskFull, InvalidParameter, InvalidVolume, UnreadableFile, UnwritableTarget
from . import formats, itk_files, mgh, nifti
from .file_bytes import is_dicom
from .formats import ENDINGS, READ_ENDINGS
from .itk_files import LPS_TO_RAS, nameable, quiet
from .volume import Volume

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def read_volume(
    path: str | os.PathLike[str], frame: int | None = None, series: str | None = None
) -> Volume:
    """One scalar 3-D volume; values as stored (scaled where the format says so).

    path: a file with one of `READ_ENDINGS`, or a folder of DICOM files. frame: of a series of
    volumes, from 0. series: number or UID of one of several DICOM series.

    Raises UnreadableFile, and InvalidVolume for colour, complex and 2-D images and for a series
    without `frame`. `Volume.check` judges the rest.
    """
    path = Path(path)
    check_source_file(path)
    found = formats.ending(path.name)
    if os.path.isdir(path) or not found and is_dicom(path):
        from .dicom_reading import read_dicom

        return read_dicom(path, frame, series)
    if series is not None:
        raise InvalidParameter(f"{path} is no DICOM folder: leave --series out.")
    if found in formats.FREESURFER:
        return mgh.read_mgh(path, frame)
    if found in formats.ITK:
        return itk_files.read_itk(path, frame)
    if found in formats.NIFTI:
        return nifti.read_nifti(path, frame)
    raise UnreadableFile(
        f"{path} can't be read as an image: give a file with one of {', '.join(READ_ENDINGS)}, or "
        "a folder of DICOM files."
    )


def check_source_file(path: Path) -> None:
    """Raises UnreadableFile where there is no file or folder that may be read."""
    if not os.path.exists(path):
        raise UnreadableFile(f"There is no file {path}: check its name and folder.")
    if not os.path.isdir(path) and not os.path.isfile(path):
        raise UnreadableFile(f"{path} is a pipe or a device: give a file or a DICOM folder.")
    if not os.access(path, os.R_OK):
        raise UnreadableFile(f"{path} may not be read: check its permissions.")


def check_target(path: str | os.PathLike[str], dicom: bool = False) -> None:
    """Raises UnwritableTarget or DiskFull if no volume can be written at path; leaves no file.
    dicom: path is to be a folder of DICOM files.

    For use before a long computation; `write_volume` does the same by itself.
    """
    path = Path(path)
    if dicom:
        from .dicom_writing import check_dicom_target

        check_dicom_target(path)
        return
    ending = _ending(path)
    if os.path.isdir(path):
        raise UnwritableTarget(f"{path} is a folder: give the name of a file in it.")
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as failure:  # the probe's name is not this one, which may be too long
        raise unwritable(path, failure) from failure
    probe = _beside(path, ending)
    try:
        with open(probe, "xb") as file:
            file.write(b"\0")
    except OSError as failure:
        raise unwritable(path, failure) from failure
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def write_volume(
    path: str | os.PathLike[str], volume: Volume, attributes: Mapping[str, object] | None = None
) -> None:
    """Writes a volume under a temporary name in the same folder, then renames it: at any time
    there is the complete file or none (or the one that was there before).

    attributes: kept as key/value pairs in NRRD and MHA, as the description (79 bytes) in NIfTI.
    Raises UnwritableTarget, DiskFull and InvalidVolume (see `Volume.check_geometry`).
    """
    write_volumes([(path, volume)], attributes)


def write_volumes(
    outputs: Sequence[tuple[str | os.PathLike[str], Volume]],
    attributes: Mapping[str, object] | None = None,
    dicom: Path | None = None,
) -> None:
    """As `write_volume`, for several files with the same attributes: nothing is renamed before all
    of them are complete, so that a failure to write one leaves every path as it was. dicom: the
    one of the paths that becomes a folder of DICOM files."""
    targets = [(Path(path), volume) for path, volume in outputs if path != dicom]
    folders = [(Path(path), volume) for path, volume in outputs if path == dicom]
    temporaries = [_beside(path, _ending(path)) for path, _ in targets]
    made: list[Path] = []
    try:
        for (path, volume), temporary in zip(targets, temporaries, strict=True):
            _write_beside(path, temporary, volume, attributes or {})
        for path, volume in folders:
            from .dicom_writing import write_dicom

            write_dicom(path, volume, attributes or {})
            made.append(path)
        for (path, _), temporary in zip(targets, temporaries, strict=True):
            try:
                os.replace(temporary, path)
            except OSError as failure:
                raise unwritable(path, failure) from failure
        made.clear()
    finally:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _write_beside(
    path: Path, temporary: Path, volume: Volume, attributes: Mapping[str, object]
) -> None:
    check_target(path)
    volume.check_geometry()
    if _ending(path).startswith(".nii"):
        text = "; ".join(f"{key}={value}" for key, value in attributes.items())
        try:
            nifti.write_nifti(temporary, volume, text)
        except OSError as failure:
            raise unwritable(path, failure) from failure
        return
    image = _image(volume)
    for key, value in attributes.items():
        image.SetMetaData(str(key), str(value))
    reason = _write_and_verify(temporary, image)
    if reason is not None:
        raise _explain(path, temporary, volume.data.nbytes, reason)


def _image(volume: Volume) -> sitk.Image:
    lps = LPS_TO_RAS @ volume.ijkToRAS
    try:
        image = sitk.GetImageFromArray(volume.data)
    except (TypeError, KeyError) as failure:
        raise InvalidVolume(
            f"Values of type {volume.data.dtype} can't be written: convert them to float32."
        ) from failure
    image.SetSpacing(volume.spacing_mm)
    image.SetDirection((lps[:3, :3] / volume.spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _write_and_verify(path: Path, image: sitk.Image) -> str | None:
    """None, or why the file is not there in full. It is read back, because the writers of some
    formats take a short write for success."""
    try:
        with quiet(), nameable(path) as name:
            sitk.WriteImage(image, str(name))
            stored = sitk.ReadImage(str(name))  # the view below does not keep it alive
    except RuntimeError as failure:
        return str(failure)
    views = sitk.GetArrayViewFromImage(stored), sitk.GetArrayViewFromImage(image)
    if not np.array_equal(*views, equal_nan=True):
        return "the file written differs from the volume"
    return None


def _explain(path: Path, temporary: Path, size: int, reason: str) -> UnwritableTarget | DiskFull:
    """SimpleITK doesn't say why; writing as many bytes of our own does."""
    try:
        with open(temporary, "wb") as file:
            for _ in range(size // 2**20 + 1):
                file.write(bytes(2**20))
    except OSError as failure:
        return unwritable(path, failure)
    last = reason.strip().splitlines()[-1]
    return UnwritableTarget(f"{path} can't be written ({last}): choose another format or folder.")


def unwritable(path: Path, failure: OSError) -> UnwritableTarget | DiskFull:
    if failure.errno in _FULL:
        return DiskFull(
            f"The disk is full (or a limit on file sizes is reached) at {path}: free some space or "
            "choose another folder."
        )
    if failure.errno == errno.ENAMETOOLONG:
        return UnwritableTarget(f"{path} can't be written: its name is too long; choose another.")
    return UnwritableTarget(
        f"{path} can't be written ({failure.strerror or failure}): choose a folder that exists and "
        "that you may write to."
    )


def _ending(path: Path) -> str:
    found = formats.ending(path.name, ENDINGS)
    if not found:
        raise UnwritableTarget(f"{path} has no known ending: use one of {', '.join(ENDINGS)}.")
    return found


def _beside(path: Path, ending: str) -> Path:
    return path.parent / f".{uuid.uuid4().hex}.part{ending}"
