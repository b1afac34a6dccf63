"""DICOM results: in the source's place and study, marked as synthetic, read by other programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicomfiles import save_series
from midiffusion.errors import InvalidVolume, UnwritableTarget
from midiffusion.images.dicom_writing import write_dicom
from midiffusion.images.io import read_volume, write_volumes
from midiffusion.images.volume import Volume

DATA = np.random.default_rng(1).integers(0, 2000, (6, 9, 8)).astype(np.int16)
MATRIX = np.array([[0.7, 0, 0, -40], [0, 0.9, 0.6, 30], [0, 0, 2.5, -20], [0, 0, 0, 1]])
ATTRIBUTES = {"MIDiffusion.synthetic": 1, "MIDiffusion.model": "flair"}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Volume, Path]:
    """A source with a tilted gantry and private data, and the folder of its result."""
    save_series(tmp_path / "source", DATA, MATRIX, PatientPosition="HFS", PatientAddress="Home 1")
    source = read_volume(tmp_path / "source")
    result = source.with_data(source.data.astype(np.float32) + 1024.4, "MR FLAIR")
    write_dicom(tmp_path / "result", result, ATTRIBUTES)
    return source, tmp_path / "result"


def test_result_lies_where_its_source_lies(written):
    source, folder = written
    result = read_volume(folder)
    np.testing.assert_allclose(result.ijkToRAS, source.ijkToRAS, atol=1e-6)
    np.testing.assert_array_equal(result.data, source.data + 1024)
    headers = [pydicom.dcmread(file) for file in folder.iterdir()]
    originals = [pydicom.dcmread(file) for file in (folder.parent / "source").iterdir()]
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert {h[name].value for h in headers} == {originals[0][name].value}
    assert len({h.SOPInstanceUID for h in headers}) == 6
    assert {h.SeriesInstanceUID for h in headers}.isdisjoint(
        {o.SeriesInstanceUID for o in originals}
    )
    referenced = {i.ReferencedSOPInstanceUID for i in headers[0].SourceImageSequence}
    assert referenced == {o.SOPInstanceUID for o in originals}


def test_result_is_marked_as_synthetic_and_holds_no_other_patient_data(written):
    header = pydicom.dcmread(next(written[1].iterdir()))
    assert header.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert header.SyntheticData == "YES" and header["SyntheticData"].tag == 0x0008001C
    assert header.SeriesDescription == "[synthetic flair] axial"
    assert "MIDiffusion.synthetic=1" in header.DerivationDescription
    assert header.ContributingEquipmentSequence[0].Manufacturer == "MIDiffusion"
    assert "PatientAddress" not in header


def test_gdcm_reads_the_same(tmp_path):
    straight = np.diag([0.7, 0.9, 2.5, 1.0])
    save_series(tmp_path / "source", DATA, straight)
    source = read_volume(tmp_path / "source")
    write_dicom(tmp_path / "ct", source.with_data(source.data, "CT"), ATTRIBUTES)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), DATA - 1024)
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.9, 2.5))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
@pytest.mark.parametrize("modality", ["CT", "MR T1"])
def test_an_independent_validator_finds_no_error(written, tmp_path, modality):
    source, _ = written
    write_dicom(tmp_path / "a", source.with_data(source.data, modality), ATTRIBUTES)
    write_dicom(tmp_path / "b", Volume(source.data, source.ijkToRAS, modality), ATTRIBUTES)
    for folder in ("a", "b"):
        command = ["dciodvfy", str(tmp_path / folder / "00001.dcm")]
        said = subprocess.run(command, capture_output=True, text=True).stderr
        errors = [line for line in said.splitlines() if line.startswith("Error")]
        # It is older than SyntheticData (0008,001C).
        assert [line for line in errors if "(0x0008,0x001c)" not in line] == []


def test_left_handed_grids_are_read_back_in_place(tmp_path):
    left_handed = np.diag([-1.0, -2, -3, 1])
    volume = Volume(DATA, left_handed, "MR")
    write_dicom(tmp_path / "a", volume, {})
    read = read_volume(tmp_path / "a")
    np.testing.assert_allclose(read.ijkToRAS @ [0, 0, 5, 1], left_handed @ [0, 0, 0, 1])
    np.testing.assert_array_equal(read.data, DATA[::-1])


def test_refusals_leave_nothing(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    with pytest.raises(InvalidVolume, match="not at right angles"):
        write_dicom(tmp_path / "a", Volume(DATA, sheared, "MR"), {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for folder, words in (("full", "is there already"), ("none/a", "can't be written")):
        with pytest.raises(UnwritableTarget, match=words):
            write_dicom(tmp_path / folder, Volume(DATA, np.eye(4), "MR"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_folder_and_files_are_written_together_or_not_at_all(tmp_path):
    volume = Volume(DATA, np.eye(4), "MR")
    folder, file = tmp_path / "a", tmp_path / "none" / "b.nrrd"
    with pytest.raises(UnwritableTarget):
        write_volumes([(folder, volume), (file, volume)], {}, folder)
    assert list(tmp_path.iterdir()) == []
    write_volumes([(folder, volume), (tmp_path / "b.nrrd", volume)], {}, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.nrrd"]
