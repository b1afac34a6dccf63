"""NIfTI and FreeSurfer files: places, values and codes as nibabel has them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from midiffusion.errors import InvalidVolume, UnreadableFile
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume

SHAPE = (7, 6, 5)  # i, j, k


def turned(left_handed: bool = False) -> np.ndarray:
    axes, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    if (np.linalg.det(axes) < 0) != left_handed:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * [0.4, 0.9, 6.0]
    matrix[:3, 3] = [-31.5, 12.25, 88.0]
    return matrix


def moved(matrix: np.ndarray) -> np.ndarray:
    other = matrix.copy()
    other[:3, 3] += [12, -7, 5]
    return other


def tilted(matrix: np.ndarray, degrees: float = 15) -> np.ndarray:
    other = matrix.copy()
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    other[:3, 2] += np.tan(np.deg2rad(degrees)) * spacing[2] * matrix[:3, 1] / spacing[1]
    return other


def saved(
    path: Path,
    sform: np.ndarray,
    codes: tuple[int, int],
    qform: np.ndarray | None = None,
    pixdim: tuple[float, ...] | None = None,
    kind: str = "<i2",
) -> nibabel.Nifti1Image:
    """The file of a random image with the codes of (qform, sform), and nibabel's view of it."""
    data = np.random.default_rng(1).integers(0, 900, SHAPE).astype(kind)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_qform(turned() if qform is None else qform, codes[0])
    header.set_sform(sform, codes[1])
    header["qform_code"], header["sform_code"] = codes
    image = nibabel.Nifti1Image(data, None, header)
    nibabel.save(image, path)
    if pixdim is not None:
        raw = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<3f", raw, 80, *pixdim)
        path.write_bytes(gzip.compress(raw))
    return nibabel.load(path)


def assert_same_place(path: Path, source: nibabel.Nifti1Image) -> None:
    """In viewers that read the qform, and in those that read the sform."""
    result = nibabel.load(path)
    for name in ("qform", "sform"):
        ours, code = getattr(result.header, f"get_{name}")(coded=True)
        theirs, wanted = getattr(source.header, f"get_{name}")(coded=True)
        assert code == wanted
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-4)


CASES = {
    "both the same": (turned(), (1, 1), None),
    "left-handed": (turned(True), (1, 1), turned(True)),
    "sform elsewhere, aligned": (moved(turned()), (1, 2), turned()),
    "sform of a template": (moved(turned()), (1, 4), turned()),
    "sform tilted": (tilted(turned()), (1, 1), turned()),
    "sform tilted, no qform": (tilted(turned()), (0, 2), turned()),
    "three decimals": (np.round(turned(), 3), (0, 1), turned()),
    "qform alone": (moved(turned()), (1, 0), turned()),
    "neither": (turned(), (0, 0), turned()),
}


@pytest.mark.parametrize("name", CASES)
def test_result_lies_where_the_source_lies_in_every_viewer(tmp_path, name):
    sform, codes, qform = CASES[name]
    source = saved(tmp_path / "a.nii.gz", sform, codes, qform)
    volume = read_volume(tmp_path / "a.nii.gz")
    volume.check()
    np.testing.assert_allclose(volume.ijkToRAS, source.affine, atol=1e-4)
    np.testing.assert_array_equal(volume.data, np.asarray(source.dataobj).T)
    write_volume(tmp_path / "b.nii.gz", volume.with_data(volume.data * np.float32(2)))
    assert_same_place(tmp_path / "b.nii.gz", source)
    assert bool(volume.notes) == (name == "neither")


@pytest.mark.parametrize(
    "pixdim", [(1, 1, 1), (0, 0, 0), (np.nan, 1, 1), (-0.4, 0.9, 6.0), (4, 9, 60)]
)
@pytest.mark.parametrize("qform_code", [0, 1])
def test_a_valid_sform_decides_whatever_pixdim_says(tmp_path, pixdim, qform_code):
    saved(tmp_path / "a.nii.gz", turned(), (qform_code, 1), pixdim=pixdim)
    volume = read_volume(tmp_path / "a.nii.gz")
    volume.check()
    np.testing.assert_allclose(volume.ijkToRAS, turned(), atol=1e-4)
    write_volume(tmp_path / "b.nii.gz", volume)
    result = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(result.affine, turned(), atol=1e-4)
    assert result.header["qform_code"] == qform_code and min(result.header.get_zooms()) > 0
    if qform_code == 0:
        np.testing.assert_allclose(result.header.get_zooms(), (0.4, 0.9, 6.0), rtol=1e-5)


@pytest.mark.parametrize("degrees", [0, 1e-9, 90, 179, 180])
@pytest.mark.parametrize("left_handed", [False, True])
def test_matrices_of_other_formats_become_both_forms(tmp_path, degrees, left_handed):
    angle = np.deg2rad(degrees)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    matrix = turned(left_handed)
    matrix[:3, :3] = turn * [1, -2 if left_handed else 2, 3]
    write_volume(tmp_path / "a.nii", Volume(np.zeros(SHAPE[::-1], np.float32), matrix))
    header = nibabel.load(tmp_path / "a.nii").header
    for form, code in (header.get_qform(coded=True), header.get_sform(coded=True)):
        np.testing.assert_allclose(form, matrix, atol=1e-4)
        assert code == 1


def test_sheared_volume_hides_the_qform_that_cannot_hold_it(tmp_path):
    sheared = tilted(turned())
    write_volume(tmp_path / "a.nii", Volume(np.zeros(SHAPE[::-1], np.float32), sheared))
    header = nibabel.load(tmp_path / "a.nii").header
    assert header.get_qform(coded=True) == (None, 0)
    np.testing.assert_allclose(header.get_sform(), sheared, atol=1e-4)


@pytest.mark.parametrize("kind", ["<i2", ">i2", ">f4", "<u2", "<f8", "u1"])
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_values_of_any_type_and_order_are_those_of_nibabel(tmp_path, kind, version):
    data = np.random.default_rng(1).integers(0, 200, SHAPE).astype(kind)
    image = version(data, turned())
    if kind[0] == ">":
        image = version(data, turned(), version.header_class(endianness=">"))
        image.set_data_dtype(data.dtype)
    image.header.set_slope_inter(2, -7)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.data.T, nibabel.load(tmp_path / "a.nii.gz").get_fdata())
    assert volume.data.dtype.isnative


def test_units_of_the_header_are_brought_to_millimetres(tmp_path):
    matrix = turned()
    matrix[:3] /= 1000
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), matrix)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.ijkToRAS, turned(), atol=1e-4)
    write_volume(tmp_path / "b.nii", volume)
    assert_same_place(tmp_path / "b.nii", nibabel.load(tmp_path / "a.nii"))


def test_compression_is_seen_in_the_file_and_not_in_its_name(tmp_path):
    source = saved(tmp_path / "a.nii.gz", turned(), (1, 1))
    raw = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "plain.nii.gz").write_bytes(raw)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(raw))
    for name in ("plain.nii.gz", "packed.nii"):
        data = read_volume(tmp_path / name).data
        np.testing.assert_array_equal(data, np.asarray(source.dataobj).T)


def test_one_frame_of_a_series_is_read(tmp_path):
    data = np.random.default_rng(1).integers(0, 900, (*SHAPE, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, turned()), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.MGHImage(data, turned()), tmp_path / "a.mgz")
    for name in ("a.nii.gz", "a.mgz"):
        volume = read_volume(tmp_path / name, frame=2)
        np.testing.assert_array_equal(volume.data, data[..., 2].T)
        np.testing.assert_allclose(volume.ijkToRAS, turned(), atol=1e-4)
        with pytest.raises(InvalidVolume, match="series of 3 volumes: choose one of them"):
            read_volume(tmp_path / name)
        with pytest.raises(InvalidVolume, match="no frame 3: it holds 3, numbered from 0 to 2"):
            read_volume(tmp_path / name, frame=3)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer_files_are_those_of_nibabel(tmp_path, kind):
    data = np.random.default_rng(1).integers(0, 250, SHAPE).astype(kind)
    nibabel.save(nibabel.MGHImage(data, turned()), tmp_path / "a.mgz")
    volume = read_volume(tmp_path / "a.mgz")
    np.testing.assert_allclose(volume.ijkToRAS, turned(), atol=1e-4)
    np.testing.assert_array_equal(volume.data.T, data)


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_pairs_and_analyze_are_read_by_either_name(tmp_path, name):
    data = np.random.default_rng(1).integers(0, 250, SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Pair(data, turned()), tmp_path / "a.img")
    volume = read_volume(tmp_path / name)
    np.testing.assert_allclose(volume.ijkToRAS, turned(), atol=1e-4)
    np.testing.assert_array_equal(volume.data.T, data)
    nibabel.save(nibabel.AnalyzeImage(data, np.diag([-1, 1, 2, 1])), tmp_path / "a.img")
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.data.T, data)
    assert volume.spacing_mm == pytest.approx((1, 1, 2)) and volume.notes
    (tmp_path / "a.img").unlink()
    (tmp_path / "a.hdr").replace(tmp_path / "alone.hdr")
    with pytest.raises(InvalidVolume, match="alone.img is missing"):
        read_volume(tmp_path / "alone.hdr")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", "a.mgz"])
def test_half_a_file_is_refused(tmp_path, name):
    data = np.random.default_rng(1).integers(0, 900, (40, 40, 40)).astype(np.int16)
    kinds = {"a.img": nibabel.Nifti1Pair, "a.mgz": nibabel.MGHImage}
    nibabel.save(kinds.get(name, nibabel.Nifti1Image)(data, turned()), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for part in (len(whole) // 2, len(whole) - 9):
        (tmp_path / name).write_bytes(whole[:part])
        with pytest.raises(UnreadableFile, match="can't be read as an image"):
            read_volume(tmp_path / name)


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path):
    import tracemalloc

    saved(tmp_path / "a.nii.gz", turned(), (1, 1))
    raw = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    struct.pack_into("<8h", raw, 40, 3, 2048, 2048, 2048, 1, 1, 1, 1)
    (tmp_path / "big.nii.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "big.nii").write_bytes(raw)
    for name in ("big.nii.gz", "big.nii"):
        tracemalloc.start()
        with pytest.raises(UnreadableFile, match="17179869184|17179869536"):
            read_volume(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 4e6
        tracemalloc.stop()


def test_ten_times_the_voxel_size_is_refused_with_the_reason(tmp_path):
    matrix = np.diag([9.1, 9.1, 30.0, 1])
    data = np.random.default_rng(1).integers(0, 900, (256, 256, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, matrix), tmp_path / "a.nii.gz")
    with pytest.raises(InvalidVolume, match="2330 x 2330 x 90 mm, more than any anatomy"):
        read_volume(tmp_path / "a.nii.gz").check()
