"""Image series in a folder of DICOM files, through SimpleITK's GDCM reader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from midiffusion.errors import InvalidData, InvalidVolume
from midiffusion.images.itk_files import volume_of
from midiffusion.images.volume import Volume

_MODALITY, _DESCRIPTION, _ORIENTATION, _POSITION = (
    "0008|0060",
    "0008|103e",
    "0020|0037",
    "0020|0032",
)
# Share by which distances of neighbouring slices may differ before one counts as missing.
_UNEVEN = 0.1


@dataclass(frozen=True)
class Series:
    """One series: its DICOM modality ("CT", "MR", "RTSTRUCT", ...), its description, and its files
    in the order of their positions along the slice axis."""

    modality: str
    description: str
    files: tuple[Path, ...]


def series_in(folder: Path) -> list[Series]:
    """The series of all DICOM files in `folder` and below, told apart by their UID."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    places = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    found = []
    for place in places:
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), uid)
            tags = _tags(Path(names[0]))
            files = tuple(Path(name) for name in names)
            found.append(Series(tags.get(_MODALITY, ""), tags.get(_DESCRIPTION, ""), files))
    return found


def read_series(series: Series, modality: str) -> Volume:
    """The volume of a series, rescaled as its files say (CT: HU).

    Raises InvalidData for files that can't be read, a single slice and a missing one.
    """
    folder, described = (
        series.files[0].parent,
        f"'{series.description}' in {series.files[0].parent}",
    )
    heights = np.sort([_height(file) for file in series.files])
    steps = np.diff(heights)
    if not steps.size or steps.min() <= 0 or steps.max() > (1 + _UNEVEN) * np.median(steps):
        raise InvalidData(
            f"The {len(series.files)} slices of the series {described} are not evenly spaced: one "
            "is missing or there twice; unpack this patient in full."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in series.files])
    try:
        volume = volume_of(reader.Execute(), folder)
        volume.check()
    except (RuntimeError, InvalidVolume) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidData(f"The series {described} can't be read: {reason}") from error
    return Volume(volume.data, volume.ijkToRAS, modality)


def _height(file: Path) -> float:
    """Position of a slice along the normal of its plane, mm."""
    tags = _tags(file)
    try:
        across, down = np.reshape([float(x) for x in tags[_ORIENTATION].split("\\")], (2, 3))
        position = [float(x) for x in tags[_POSITION].split("\\")]
        return float(np.dot(np.cross(across, down), position))
    except (KeyError, ValueError) as error:
        raise InvalidData(f"{file} does not say where its slice lies; unpack it again.") from error


def _tags(file: Path) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {}  # not a picture: structures, plans
    return {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
