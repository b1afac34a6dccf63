"""Files: geometry through each format, one sentence for each failure, nothing left behind."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from midiffusion.errors import DiskFull, InvalidVolume, UnreadableFile, UnwritableTarget
from midiffusion.images.formats import volume_files
from midiffusion.images.io import ENDINGS, check_target, read_volume, write_volume, write_volumes
from midiffusion.images.volume import Volume


def oblique_volume(left_handed: bool) -> Volume:
    axes, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    if (np.linalg.det(axes) < 0) != left_handed:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * [0.4, 0.9, 6.0]
    matrix[:3, 3] = [-31.5, 12.25, 88.0]
    data = np.random.default_rng(4).standard_normal((3, 5, 7)).astype(np.float32)
    return Volume(data, matrix)


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_values_and_geometry_survive_a_file(tmp_path, ending, left_handed):
    volume = oblique_volume(left_handed)
    write_volume(tmp_path / f"a{ending}", volume)
    read = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read.data, volume.data)
    # NIfTI stores its matrices in float32.
    np.testing.assert_allclose(
        read.ijkToRAS, volume.ijkToRAS, atol=2e-5 if "nii" in ending else 1e-10
    )
    assert [p.name for p in tmp_path.iterdir()] == [f"a{ending}"]


def test_files_know_lps_and_the_library_ras(tmp_path):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetOrigin((10, 20, 30))
    image.SetSpacing((2, 3, 4))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    matrix = read_volume(tmp_path / "a.nrrd").ijkToRAS
    expected = [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(matrix, expected)


def test_attributes_are_kept(tmp_path):
    volume = oblique_volume(False)
    attributes = {"MIDiffusion.model": "flair", "MIDiffusion.seed": 3}
    for ending in (".nrrd", ".mha"):
        write_volume(tmp_path / f"a{ending}", volume, attributes)
        image = sitk.ReadImage(str(tmp_path / f"a{ending}"))
        assert image.GetMetaData("MIDiffusion.model") == "flair"
        assert image.GetMetaData("MIDiffusion.seed") == "3"
    write_volume(tmp_path / "a.nii.gz", volume, attributes)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert image.GetMetaData("descrip") == "MIDiffusion.model=flair; MIDiffusion.seed=3"
    write_volume(tmp_path / "b.nii", volume, {"long": "x" * 200})


@pytest.mark.parametrize("before", range(3))
def test_attributes_in_other_letters_are_kept(tmp_path, before):
    """Of a letter of several bytes none, one or more may be beyond the end."""
    attributes = {"name": "a" * before + "Müller" * 30}
    write_volume(tmp_path / "a.nii.gz", oblique_volume(False), attributes)
    kept = sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetMetaData("descrip")
    assert f"name={attributes['name']}".startswith(kept)
    assert 77 <= len(kept.encode()) <= 79


def test_an_existing_file_is_replaced_whole(tmp_path):
    write_volume(tmp_path / "a.mha", oblique_volume(False))
    other = Volume(oblique_volume(False).data + 1, np.eye(4))
    write_volume(tmp_path / "a.mha", other)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").data, other.data)


@pytest.mark.parametrize("fails", ["second", "first"])
def test_of_several_files_all_are_written_or_none(tmp_path, fails):
    """Files that were there before stay as they were."""
    old, new = oblique_volume(False), oblique_volume(True)
    paths = [tmp_path / "a.nrrd", tmp_path / "b.mha"]
    write_volumes([(path, old) for path in paths])
    odd = Volume(np.zeros((2, 2, 2), np.float16), np.eye(4))
    volumes = [odd, new] if fails == "first" else [new, odd]
    with pytest.raises(InvalidVolume, match="float16"):
        write_volumes(list(zip(paths, volumes, strict=True)))
    for path in paths:
        np.testing.assert_allclose(read_volume(path).ijkToRAS, old.ijkToRAS)
    assert sorted(tmp_path.iterdir()) == paths
    write_volumes([(path, new) for path in paths])
    for path in paths:
        np.testing.assert_allclose(read_volume(path).ijkToRAS, new.ijkToRAS)
    assert sorted(tmp_path.iterdir()) == paths


def test_unreadable_sources(tmp_path):
    (tmp_path / "text.nii.gz").write_text("not an image")
    for ending in ENDINGS:
        whole = tmp_path / f"whole{ending}"
        write_volume(whole, oblique_volume(False))
        (tmp_path / f"cut{ending}").write_bytes(whole.read_bytes()[:-40])
    for name, words in (
        *((f"cut{ending}", "can't be read as an image") for ending in ENDINGS),
        ("none.nii.gz", "There is no file"),
        (f"{'n' * 300}.nii.gz", "There is no file"),
        ("text.nii.gz", "can't be read as an image"),
    ):
        with pytest.raises(UnreadableFile, match=words) as caught:
            read_volume(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float64])
def test_whole_nifti_files_of_any_type_are_read(tmp_path, ending, kind):
    image = sitk.GetImageFromArray(np.arange(24).reshape(2, 3, 4).astype(kind))
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    assert read_volume(tmp_path / f"a{ending}").data.ravel().tolist() == list(range(24))


def test_images_that_are_not_one_scalar_volume(tmp_path):
    cube = np.zeros((4, 5, 6, 3), np.uint8)
    colour = tmp_path / "colour.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(cube, isVector=True), str(colour))
    series = tmp_path / "series.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(cube, isVector=False), str(series))
    flat = tmp_path / "flat.mha"
    sitk.WriteImage(sitk.GetImageFromArray(cube[0, :, :, 0]), str(flat))
    for path, words in (
        (colour, "colour"),
        (series, "series of 4 volumes"),
        (flat, "2 dimensions"),
    ):
        with pytest.raises(InvalidVolume, match=words):
            read_volume(path)


def test_a_nifti_of_colours_is_named_as_such(tmp_path):
    """Written by hand: 24 bits a voxel are three values of 8, and not a file that ends early."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 2, 2, 2, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 128, 24)  # RGB24
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    (tmp_path / "colour.nii").write_bytes(header + bytes(range(24)))
    with pytest.raises(InvalidVolume, match="3 values per voxel .colour"):
        read_volume(tmp_path / "colour.nii")


@pytest.mark.parametrize("column", [(5.0, 1.0, 0.0), (0.0, 0.0, 0.0)])
def test_flat_geometry_is_refused(tmp_path, column):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        f"space directions: (1,0,0) ({','.join(map(str, column))}) (0,0,1)\n"
        "kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path = tmp_path / "bad.nrrd"
    path.write_bytes(header.encode() + np.arange(8, dtype="<i2").tobytes())
    with pytest.raises(InvalidVolume):
        read_volume(path).check()


def test_unwritable_targets_leave_nothing(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "folder.nrrd").mkdir()
    for target, words in (
        (file / "a.nrrd", "can't be written"),
        (tmp_path / "nowhere" / "a.nrrd", "can't be written"),
        (tmp_path / "folder.nrrd", "is a folder"),
        (tmp_path / "a.png", "no known ending"),
        (tmp_path / ".nrrd", "no known ending"),
        (tmp_path / f"{'n' * 300}.nrrd", "too long"),
    ):
        for refuse in (check_target, lambda path: write_volume(path, oblique_volume(True))):
            with pytest.raises(UnwritableTarget, match=words):
                refuse(target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.nrrd"]


def test_flat_or_odd_volumes_are_not_written(tmp_path):
    flat = np.eye(4)
    flat[0, 1] = 5
    with pytest.raises(InvalidVolume, match="in one plane"):
        write_volume(tmp_path / "a.nrrd", Volume(np.zeros((2, 2, 2)), flat))
    with pytest.raises(InvalidVolume, match="float16"):
        write_volume(tmp_path / "a.nrrd", Volume(np.zeros((2, 2, 2), np.float16), np.eye(4)))
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
import numpy as np
from midiffusion.errors import DiskFull
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume
data = np.random.default_rng(0).standard_normal((40, 64, 64)).astype(np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_volume(sys.argv[1], Volume(data, np.eye(4)))
except DiskFull as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("ending", ENDINGS)
def test_full_disk_is_named_and_leaves_no_file(tmp_path, ending):
    library = Path(sys.modules["midiffusion"].__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / f"a{ending}")],
        env={"PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.startswith("The disk is full"), ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_disk_at_the_first_byte(tmp_path, monkeypatch):
    import builtins

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(DiskFull):
        check_target(tmp_path / "a.nrrd")


def test_inputs_of_a_folder_are_volumes_and_no_results(tmp_path):
    kept = ["a.nii.gz", "b.NRRD", "c.mgz", "d.hdr", "e.mhd", "f.img.gz"]
    others = ["._a.nii.gz", ".hidden.nrrd", ".0f.part.nii.gz", "d.img", "e.raw", "notes.txt"]
    others += ["a_synthetic-FLAIR.nii.gz", "b_synthetic-CT.nrrd", "g.nii.gz.part"]
    for name in (*kept, *others):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.nii.gz").mkdir()
    assert [path.name for path in volume_files(tmp_path)] == kept
