"""DICOM series for tests, written with pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

UNIT_AXES = (1.0, 0, 0, 0, 1.0, 0)


def _dataset(path: Path, sop_class: str, **fields: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID = "Phantom^Head", "ID-7"
    made.PatientBirthDate, made.PatientSex = "19700102", "F"
    made.StudyInstanceUID, made.FrameOfReferenceUID = "1.2.3.4", "1.2.3.4.1"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = (
        "20240506",
        "0102",
        "S",
        "A",
    )
    made.ReferringPhysicianName = ""
    made.SeriesInstanceUID, made.SeriesNumber, made.Modality = "1.2.3.5", 3, "CT"
    made.SeriesDescription = "axial"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _pixels(dataset: FileDataset, data: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = data.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(data.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(data).tobytes()


def save_series(
    folder: Path,
    data: np.ndarray,
    matrix: np.ndarray,
    slopes: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    **fields: Any,
) -> list[Path]:
    """data: [k, j, i] stored int16. matrix: ijk to LPS, mm. slopes: [k]; intercepts are -1024."""
    folder.mkdir(exist_ok=True)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = (matrix[:3, :2] / spacing[:2]).T.ravel()
    files = []
    for k, plane in enumerate(data):
        path = folder / f"{fields.get('SeriesNumber', 3)}-{len(data) - k:03}.dcm"
        made = _dataset(path, CTImageStorage, **fields)
        place = (matrix @ [0, 0, k, 1])[:3] if positions is None else positions[k]
        made.ImagePositionPatient = [f"{x:.6f}" for x in place]
        made.ImageOrientationPatient = [f"{x:.8f}" for x in axes]
        made.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
        made.SliceThickness, made.InstanceNumber = "1", k + 1
        made.RescaleSlope = "1" if slopes is None else str(slopes[k])
        made.RescaleIntercept = "-1024"
        _pixels(made, plane)
        made.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def save_enhanced(path: Path, data: np.ndarray, matrix: np.ndarray, slopes: np.ndarray) -> None:
    """One multi-frame file whose frames are stored from the last to the first."""
    made = _dataset(path, EnhancedCTImageStorage, NumberOfFrames=len(data))
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = [float(spacing[1]), float(spacing[0])]
    orientation.ImageOrientationPatient = (matrix[:3, :2] / spacing[:2]).T.ravel().tolist()
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for k in reversed(range(len(data))):
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = (matrix @ [0, 0, k, 1])[:3].tolist()
        values.RescaleSlope, values.RescaleIntercept = str(slopes[k]), "-1024"
        frame.PlanePositionSequence = Sequence([place])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    _pixels(made, data[::-1])
    made.save_as(path, enforce_file_format=True)
