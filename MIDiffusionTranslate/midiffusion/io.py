"""Volumes in files, through SimpleITK. Files know LPS, the library RAS: they meet here only."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import DiskFull, InvalidVolume, UnreadableFile, UnwritableTarget
from .volume import Volume

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_NIFTI_DESCRIPTION = 79  # bytes


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """One scalar 3-D volume from a file of any format SimpleITK reads; values as stored (scaled
    where the format says so).

    Raises UnreadableFile, and InvalidVolume for colour, complex, 2-D and 4-D images and for
    geometry that the file format itself refuses. `Volume.check` judges the rest.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise UnreadableFile(f"There is no file {path}: check its name and folder.")
    if not os.path.isfile(path):
        raise UnreadableFile(
            f"{path} is a folder, not a file: give one volume ({', '.join(ENDINGS)})."
        )
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # one sentence of ours, not pages of theirs
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as failure:
        raise _unreadable(path, str(failure)) from failure
    volume = volume_of(image, path)
    if not _is_complete(path, image):
        raise _unreadable(path, "")
    return volume


def volume_of(image: sitk.Image, path: Path) -> Volume:
    """The volume that SimpleITK has read from `path`, by which the errors name it.

    Raises InvalidVolume unless it is scalar and 3-D.
    """
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InvalidVolume(
            f"{path} has {image.GetNumberOfComponentsPerPixel()} values per voxel (colour or "
            "vectors): one scalar volume is needed."
        )
    if image.GetDimension() != 3:
        raise InvalidVolume(
            f"{path} has {image.GetDimension()} dimensions: one scalar volume with 3 is needed, "
            "extract one volume of the series first."
        )
    lps = np.eye(4)
    direction = np.reshape(image.GetDirection(), (3, 3))
    lps[:3, :3] = direction * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), _LPS_TO_RAS @ lps)


def _is_complete(path: Path, image: sitk.Image) -> bool:
    """False for a NIfTI file of a scalar image that ends early: ITK reads it all the same, the rest
    at random. (Of several values per voxel, "bitpix" counts one or all: such images come not so
    far.)"""
    if not path.name.lower().endswith((".nii", ".nii.gz")) or not image.HasMetaDataKey("bitpix"):
        return True
    needed = int(float(image.GetMetaData("vox_offset")))
    needed += image.GetNumberOfPixels() * int(image.GetMetaData("bitpix")) // 8
    size = path.stat().st_size
    if path.name.lower().endswith(".gz"):
        size = 0
        try:
            with gzip.open(path) as file:
                while block := file.read(1 << 20):
                    size += len(block)
        except (OSError, EOFError, zlib.error):
            return False
    return size >= needed


def _unreadable(path: Path, reason: str) -> UnreadableFile | InvalidVolume:
    if "orthonormal" in reason:
        return InvalidVolume(
            f"The axes of {path} are sheared (not at right angles): resample it to a regular grid."
        )
    if "pacing" in reason:
        return InvalidVolume(f"{path} has an axis of spacing zero: correct its header.")
    if not os.access(path, os.R_OK):
        return UnreadableFile(f"{path} may not be read: check its permissions.")
    return UnreadableFile(
        f"{path} can't be read as an image: give a complete {', '.join(ENDINGS)} file."
    )


def check_target(path: str | os.PathLike[str]) -> None:
    """Raises UnwritableTarget or DiskFull if no volume can be written at path; leaves no file.

    For use before a long computation; `write_volume` does the same by itself.
    """
    path = Path(path)
    ending = _ending(path)
    if os.path.isdir(path):
        raise UnwritableTarget(f"{path} is a folder: give the name of a file in it.")
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as failure:  # the probe's name is not this one, which may be too long
        raise _unwritable(path, failure) from failure
    probe = _beside(path, ending)
    try:
        with open(probe, "xb") as file:
            file.write(b"\0")
    except OSError as failure:
        raise _unwritable(path, failure) from failure
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
) -> None:
    """As `write_volume`, for several files with the same attributes: nothing is renamed before all
    of them are complete, so that a failure to write one leaves every path as it was."""
    targets = [(Path(path), volume) for path, volume in outputs]
    temporaries = [_beside(path, _ending(path)) for path, _ in targets]
    try:
        for (path, volume), temporary in zip(targets, temporaries, strict=True):
            _write_beside(path, temporary, volume, attributes or {})
        for (path, _), temporary in zip(targets, temporaries, strict=True):
            try:
                os.replace(temporary, path)
            except OSError as failure:
                raise _unwritable(path, failure) from failure
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _write_beside(
    path: Path, temporary: Path, volume: Volume, attributes: Mapping[str, object]
) -> None:
    check_target(path)
    image = _image(volume)
    for key, value in _stored_attributes(path, attributes).items():
        image.SetMetaData(key, value)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reason = _write_and_verify(temporary, image)
    if reason is not None:
        raise _explain(path, temporary, volume.data.nbytes, reason)


def _image(volume: Volume) -> sitk.Image:
    volume.check_geometry()
    lps = _LPS_TO_RAS @ volume.ijkToRAS
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


def _stored_attributes(path: Path, attributes: Mapping[str, object]) -> dict[str, str]:
    if not attributes:
        return {}
    if _ending(path).startswith(".nii"):
        text = "; ".join(f"{key}={value}" for key, value in attributes.items())
        kept = text.encode()[:_NIFTI_DESCRIPTION]  # it may end within a character
        return {"ITK_FileNotes": kept.decode(errors="ignore")}
    return {str(key): str(value) for key, value in attributes.items()}


def _write_and_verify(path: Path, image: sitk.Image) -> str | None:
    """None, or why the file is not there in full. It is read back, because the writers of some
    formats take a short write for success."""
    try:
        sitk.WriteImage(image, str(path), useCompression=path.name.endswith(".nii.gz"))
        stored = sitk.ReadImage(str(path))  # the view below does not keep it alive
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
        return _unwritable(path, failure)
    last = reason.strip().splitlines()[-1]
    return UnwritableTarget(f"{path} can't be written ({last}): choose another format or folder.")


def _unwritable(path: Path, failure: OSError) -> UnwritableTarget | DiskFull:
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
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return ending
    raise UnwritableTarget(f"{path} has no known ending: use one of {', '.join(ENDINGS)}.")


def _beside(path: Path, ending: str) -> Path:
    return path.parent / f".{uuid.uuid4().hex}.part{ending}"
