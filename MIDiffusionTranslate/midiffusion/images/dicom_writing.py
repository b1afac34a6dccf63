"""A synthetic volume as a DICOM series that nobody can take for an acquired one.

The series is DERIVED\\SECONDARY, marked as synthetic data, names this program as contributing
equipment, and refers to the source's images. With a DICOM source it belongs to the source's study
and frame of reference. Patient data are those of the source, and no others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from .. import __version__
from ..errors import DiskFull, InvalidVolume, UnwritableTarget
from .dicom_reading import DicomSource
from .itk_files import LPS_TO_RAS
from .placement import unit_axes
from .volume import Volume

# What a result takes over from its source: patient, study, frame of reference.
_TAKEN = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientPosition",
    "BodyPartExamined",
)
_EMPTY = (  # of type 2: to be there, if empty
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
    "PatientPosition",
    "Laterality",
)
_MOST_SERIES = 2**31 - 1001


def check_dicom_target(folder: Path) -> None:
    """Raises UnwritableTarget unless `folder` can be made: it is not there, or is empty."""
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UnwritableTarget(f"{folder} is there already: name a new folder for DICOM files.")
    if not folder.parent.is_dir() or not os.access(folder.parent, os.W_OK | os.X_OK):
        raise UnwritableTarget(
            f"{folder} can't be written: choose a folder that exists and that you may write to."
        )


def write_dicom(folder: Path, volume: Volume, attributes: Mapping[str, object]) -> None:
    """Writes one file per slice into a new folder, whole or not at all.

    volume: HU for modality "CT", else values of at least 0, which are rounded to whole numbers.
    `volume.dicom` is the source. attributes: provenance, kept as the description of the derivation.

    Raises UnwritableTarget, DiskFull, and InvalidVolume for slices whose rows and columns are not
    at right angles, which DICOM can't describe.
    """
    folder = Path(folder)
    check_dicom_target(folder)
    volume.check_geometry()
    axes = unit_axes(LPS_TO_RAS @ volume.ijkToRAS)
    if abs(float(axes[:, 0] @ axes[:, 1])) > 1e-3:
        raise InvalidVolume(
            "The rows and columns of the slices are not at right angles, which DICOM can't "
            "describe: write another format."
        )
    part = folder.parent / f".{uuid.uuid4().hex}.part"
    try:
        part.mkdir()
        common = _common(volume, attributes)
        for k, plane in enumerate(_stored(volume)):
            _write_slice(part / f"{k + 1:05}.dcm", volume, common, k, plane)
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
        part.replace(folder)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise DiskFull(f"The disk is full at {folder}: free some space.") from failure
        raise UnwritableTarget(
            f"{folder} can't be written ({failure.strerror or failure}): choose another folder."
        ) from failure
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_ct(volume: Volume) -> bool:
    return volume.modality.upper() == "CT"


def _stored(volume: Volume) -> np.ndarray:
    """[k, j, i] as 16-bit whole numbers: signed HU, or unsigned."""
    kind = np.dtype("<i2" if _is_ct(volume) else "<u2")
    limits = np.iinfo(kind)
    rounded = np.rint(np.nan_to_num(np.asarray(volume.data, np.float32)))
    stored: np.ndarray = np.clip(rounded, limits.min, limits.max).astype(kind)
    return stored


def _common(volume: Volume, attributes: Mapping[str, object]) -> Dataset:
    """The header that all slices share."""
    made, now = Dataset(), datetime.now()
    source = volume.dicom.header if volume.dicom is not None else Dataset()
    for name in _TAKEN:
        if name in source:
            made[name] = source[name]
    for name in _EMPTY:
        if name not in made:
            setattr(made, name, "")
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not made.get(name):
            setattr(made, name, generate_uid())
    made.SpecificCharacterSet = made.get("SpecificCharacterSet") or "ISO_IR 192"
    made.SOPClassUID = CTImageStorage if _is_ct(volume) else MRImageStorage
    made.Modality = "CT" if _is_ct(volume) else "MR"
    made.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if _is_ct(volume) else "OTHER"]
    made.SyntheticData = "YES"
    made.SeriesInstanceUID = generate_uid()
    made.SeriesNumber = min(int(source.get("SeriesNumber") or 0), _MOST_SERIES) + 1000
    target = str(attributes.get("MIDiffusion.model", volume.modality))
    made.SeriesDescription = f"[synthetic {target}] {source.get('SeriesDescription', '')}"[
        :64
    ].strip()
    made.InstanceCreationDate = made.SeriesDate = made.ContentDate = now.strftime("%Y%m%d")
    made.InstanceCreationTime = made.SeriesTime = made.ContentTime = now.strftime("%H%M%S")
    made.AcquisitionNumber = None
    made.Manufacturer = made.ManufacturerModelName = "MIDiffusion"
    made.SoftwareVersions = __version__
    text = "; ".join(f"{key}={value}" for key, value in attributes.items())
    made.DerivationDescription = f"Synthetic, not for diagnosis. {text}"[:1024]
    made.ImageComments = "Synthetic image, made from another modality; not for diagnosis."
    made.BurnedInAnnotation = "NO"
    _add_references(made, volume.dicom)
    _add_equipment(made, now)
    _add_acquisition(made, _is_ct(volume))
    return made


def _add_references(made: Dataset, source: DicomSource | None) -> None:
    if source is None:
        return
    images = []
    for sop_class, instance in source.references:
        image, purpose = Dataset(), Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = sop_class, instance
        purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
        purpose.CodeMeaning = "Source image for image processing operation"
        image.PurposeOfReferenceCodeSequence = Sequence([purpose])
        images.append(image)
    made.SourceImageSequence = Sequence(images)


def _add_equipment(made: Dataset, now: datetime) -> None:
    equipment, purpose = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    equipment.PurposeOfReferenceCodeSequence = Sequence([purpose])
    equipment.Manufacturer = equipment.ManufacturerModelName = "MIDiffusion"
    equipment.SoftwareVersions = __version__
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    equipment.ContributionDescription = "Translated an image into another modality"
    made.ContributingEquipmentSequence = Sequence([equipment])


def _add_acquisition(made: Dataset, ct: bool) -> None:
    """What the image module of CT or MR demands; nothing was acquired."""
    if ct:
        made.KVP = None
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = "0", "1", "HU"
        return
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "RM", "NONE", ""
    made.MRAcquisitionType = ""
    made.RepetitionTime = made.EchoTime = made.EchoTrainLength = None


def _write_slice(path: Path, volume: Volume, common: Dataset, k: int, plane: np.ndarray) -> None:
    lps = LPS_TO_RAS @ volume.ijkToRAS
    axes, spacing = unit_axes(lps), volume.spacing_mm
    normal = np.cross(axes[:, 0], axes[:, 1])
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = common.SOPClassUID
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(str(path), common, file_meta=meta, preamble=bytes(128))
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    made.InstanceNumber = k + 1
    made.ImagePositionPatient = [_decimal(x) for x in (lps @ [0, 0, k, 1])[:3]]
    made.ImageOrientationPatient = [_decimal(x) for x in axes[:, :2].T.ravel()]
    made.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    thickness = _decimal(abs(float(lps[:3, 2] @ normal)))
    made.SliceThickness = thickness
    if made.Modality == "MR":
        made.SpacingBetweenSlices = thickness
    made.Rows, made.Columns = plane.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, int(plane.dtype.kind == "i")
    centre, width = (40, 80) if made.Modality == "CT" else (500, 1000)
    made.WindowCenter, made.WindowWidth = str(centre), str(width)
    made.PixelData = np.ascontiguousarray(plane).tobytes()
    pydicom.dcmwrite(path, made, enforce_file_format=True)


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return str(pydicom.valuerep.format_number_as_ds(float(value)))
