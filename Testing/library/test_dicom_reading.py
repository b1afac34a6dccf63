"""DICOM folders: the volume in its place, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicomfiles import save_enhanced, save_series
from midiffusion.errors import InvalidParameter, InvalidVolume, UnreadableFile
from midiffusion.images.io import read_volume

DATA = np.random.default_rng(1).integers(0, 2000, (6, 9, 8)).astype(np.int16)
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])


def placed(tilt: float = 0.0) -> np.ndarray:
    """ijk to LPS: oblique, the slices shifted along j by a tilt in degrees."""
    axes, _ = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(0).standard_normal((3, 3)))
    axes *= np.sign(np.diag(axes))
    matrix = np.eye(4)
    matrix[:3, :3] = axes * [0.7, 0.9, 2.5]
    matrix[:3, 2] += np.tan(np.deg2rad(tilt)) * 2.5 * axes[:, 1]
    matrix[:3, 3] = [-40, 30, -20]
    return matrix


@pytest.mark.parametrize("tilt", [0, 15, -25])
def test_a_series_lies_where_its_slices_lie(tmp_path, tilt):
    save_series(tmp_path / "a", DATA, placed(tilt))
    volume = read_volume(tmp_path / "a")
    volume.check()
    np.testing.assert_allclose(volume.ijkToRAS, LPS_TO_RAS @ placed(tilt), atol=1e-4)
    np.testing.assert_array_equal(volume.data, DATA - 1024)
    assert volume.modality == "CT"


def test_a_straight_series_is_that_of_itk(tmp_path):
    save_series(tmp_path / "a", DATA, placed())
    volume = read_volume(tmp_path / "a")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "a")))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose((LPS_TO_RAS @ volume.ijkToRAS)[:3, 3], image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(volume.spacing_mm, image.GetSpacing(), atol=1e-4)


def test_every_slice_has_its_own_rescaling(tmp_path):
    slopes = np.linspace(0.5, 3, 6)
    save_series(tmp_path / "a", DATA, placed(), slopes)
    save_enhanced(tmp_path / "b.dcm", DATA, placed(15), slopes)
    expected = DATA * slopes[:, None, None] - 1024
    np.testing.assert_allclose(read_volume(tmp_path / "a").data, expected, rtol=1e-5)
    enhanced = read_volume(tmp_path / "b.dcm")
    np.testing.assert_allclose(enhanced.data, expected, rtol=1e-5)
    np.testing.assert_allclose(enhanced.ijkToRAS, LPS_TO_RAS @ placed(15), atol=1e-4)


def test_of_several_series_one_is_chosen(tmp_path):
    folder = tmp_path / "a"
    save_series(folder, DATA, placed())
    save_series(
        folder,
        DATA[:4] + 5,
        placed(),
        SeriesInstanceUID="1.2.9",
        SeriesNumber=7,
        SeriesDescription="bone",
    )
    sentence = r"2 series: choose one of 3 \(axial, 6 images\); 7 \(bone, 4 images\)"
    with pytest.raises(UnreadableFile, match=sentence):
        read_volume(folder)
    with pytest.raises(UnreadableFile, match="no series '8'"):
        read_volume(folder, series="8")
    for series in ("7", "1.2.9"):
        np.testing.assert_array_equal(read_volume(folder, series=series).data, DATA[:4] - 1019)


def test_scouts_and_other_files_do_not_count(tmp_path):
    folder = tmp_path / "a"
    save_series(folder, DATA, placed())
    save_series(folder, DATA[:1], placed(), SeriesInstanceUID="1.2.9", SeriesNumber=1)
    (folder / "readme.txt").write_text("no image")
    (folder / "._3-001.dcm").write_bytes(b"\0\5\x16\7")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + bytes(range(200)))
    np.testing.assert_array_equal(read_volume(folder).data, DATA - 1024)


def test_copies_of_a_slice_count_once(tmp_path):
    file = save_series(tmp_path / "a", DATA, placed())[2]
    (tmp_path / "a" / "copy.dcm").write_bytes(file.read_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "a").data, DATA - 1024)


def test_volumes_at_one_place_are_frames(tmp_path):
    for time in range(3):
        save_series(
            tmp_path / "a",
            DATA + time,
            placed(),
            AcquisitionNumber=time + 1,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        )
        for file in (tmp_path / "a").glob("3-*"):
            file.rename(file.with_name(f"{time}{file.name[1:]}x"))
    with pytest.raises(InvalidVolume, match="series of 3 volumes"):
        read_volume(tmp_path / "a")
    np.testing.assert_array_equal(read_volume(tmp_path / "a", frame=1).data, DATA - 1023)
    next((tmp_path / "a").iterdir()).unlink()
    with pytest.raises(InvalidVolume, match="2 to 3 slices at the same position"):
        read_volume(tmp_path / "a", frame=1)


def _remove(folder: Path, *slices: int) -> None:
    for file, header in [(f, pydicom.dcmread(f)) for f in folder.iterdir()]:
        if header.InstanceNumber in slices:
            file.unlink()


def _with(**changes: object):
    def change(folder: Path) -> None:
        file = sorted(folder.iterdir())[2]
        header = pydicom.dcmread(file)
        for name, value in changes.items():
            setattr(header, name, value)
        header.save_as(file)

    return change


REFUSED = {
    "slices are missing at 1 place": lambda folder: _remove(folder, 3),
    "one slice only": lambda folder: _remove(folder, *range(2, 7)),
    "several orientations": _with(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
    "several sizes": _with(PixelSpacing=[1, 1]),
    "doesn't say where its picture lies": _with(ImagePositionPatient=None),
    "mm apart or shifted": _with(ImagePositionPatient=[-40, 33, -13]),
    "is a colour picture": _with(SamplesPerPixel=3),
    "can't be decoded": _with(PixelData=b"ab"),
    "rescale slope or intercept that is no number": _with(RescaleIntercept="nan"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_regular_volume_is_refused_in_one_sentence(tmp_path, words):
    save_series(tmp_path / "a", DATA, placed())
    REFUSED[words](tmp_path / "a")
    with pytest.raises((InvalidVolume, UnreadableFile), match=words) as caught:
        read_volume(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_uneven_spacing_is_refused(tmp_path):
    positions = np.zeros((6, 3))
    positions[:, 2] = [0, 2.5, 5, 7.5, 12, 17]
    matrix = np.diag([1, 1, 2.5, 1])
    save_series(tmp_path / "a", DATA, matrix, positions=positions)
    with pytest.raises(InvalidVolume, match="2.50 to 5.00 mm apart"):
        read_volume(tmp_path / "a")


def test_a_folder_without_images_and_a_series_of_a_file(tmp_path):
    with pytest.raises(UnreadableFile, match="holds no DICOM images"):
        read_volume(tmp_path)
    with pytest.raises(InvalidParameter, match="leave --series out"):
        (tmp_path / "a.nrrd").write_bytes(b"NRRD")
        read_volume(tmp_path / "a.nrrd", series="3")
