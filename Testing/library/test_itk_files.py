"""NRRD and MetaImage files: places, series, and data that are shorter than promised."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from midiffusion.errors import InvalidVolume, UnreadableFile
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume

DATA = np.random.default_rng(1).integers(0, 900, (5, 6, 7)).astype(np.int16)
SHEARED = np.array([[1.0, 0, 0, -30], [0, 2, 0.8, 12], [0, 0, 3, 88], [0, 0, 0, 1]])
NRRD = (
    "NRRD0005\ntype: short\ndimension: 3\nSPACE\nsizes: 7 6 5\nspace directions: (-1,0,0) (0,-2,0) "
    "(0,-0.8,3)\nkinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: "
    "(30,-12,88)\n"
)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_sheared_grids_are_written_and_read(tmp_path, ending):
    write_volume(tmp_path / f"a{ending}", Volume(DATA, SHEARED))
    volume = read_volume(tmp_path / f"a{ending}")
    volume.check()
    np.testing.assert_allclose(volume.ijkToRAS, SHEARED, atol=1e-5)
    np.testing.assert_array_equal(volume.data, DATA)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_fourth_axis_of_one_is_no_series(tmp_path, ending):
    image = sitk.GetImageFromArray(DATA)
    image.SetSpacing((1, 2, 3))
    image.SetOrigin((4, 5, 6))
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / f"a{ending}"))
    sitk.WriteImage(sitk.JoinSeries([image, image + 1]), str(tmp_path / f"b{ending}"))
    volume = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.ijkToRAS, np.array(np.diag([-1, -2, 3, 1])) + _at(-4, -5, 6))
    np.testing.assert_array_equal(read_volume(tmp_path / f"b{ending}", frame=1).data, DATA + 1)
    with pytest.raises(InvalidVolume, match="series of 2 volumes"):
        read_volume(tmp_path / f"b{ending}")


def _at(*origin: float) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[:3, 3] = origin
    return matrix


def test_a_sequence_of_slicer_gives_one_frame(tmp_path):
    series = np.stack([DATA, DATA + 1, DATA + 2])
    header = {
        "kinds": ["list", "domain", "domain", "domain"],
        "space": "left-posterior-superior",
        "space directions": np.vstack([[np.nan] * 3, np.eye(3)]),
        "space origin": np.zeros(3),
    }
    nrrd.write(str(tmp_path / "a.seq.nrrd"), series, header, index_order="F")
    read = read_volume(tmp_path / "a.seq.nrrd", frame=2)
    np.testing.assert_array_equal(read.data.T, DATA + 2)
    with pytest.raises(InvalidVolume, match="series of 3 volumes"):
        read_volume(tmp_path / "a.seq.nrrd")


@pytest.mark.parametrize(
    "units", ['space units: "mm" "mm" "mm"', "space units: mm mm mm", 'units: "mm" "mm" "mm"']
)
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_units_are_no_reason_to_refuse(tmp_path, units, encoding):
    text = NRRD.replace("SPACE", "space: LPS").replace("raw", encoding) + units + "\n\n"
    data = DATA.tobytes() if encoding == "raw" else gzip.compress(DATA.tobytes())
    (tmp_path / "a.nrrd").write_bytes(text.encode() + data)
    volume = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_allclose(volume.ijkToRAS, SHEARED, atol=1e-6)
    np.testing.assert_array_equal(volume.data, DATA)


def test_units_other_than_millimetres_are_converted(tmp_path):
    text = NRRD.replace("SPACE", "space: LPS") + 'space units: "cm" "cm" "cm"\n\n'
    (tmp_path / "a.nrrd").write_bytes(text.encode() + DATA.tobytes())
    np.testing.assert_allclose(read_volume(tmp_path / "a.nrrd").ijkToRAS[:3], 10 * SHEARED[:3])


CUT = ".nrrd", "gzip.nrrd", ".mha", "packed.mha", ".mhd", ".nhdr"


def _written(folder: Path, name: str) -> tuple[Path, Path]:
    """A file, and the one that holds its data."""
    path = folder / f"a{name}"
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 900, (9, 30, 30)))
    if name in (".mhd", ".nhdr"):
        sitk.WriteImage(image, str(path))
        return path, next(file for file in folder.iterdir() if file != path)
    sitk.WriteImage(image, str(path), useCompression=name != name.lstrip("gp"))
    return path, path


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_stream_that_ends_early_is_refused(tmp_path, name, share):
    path, data = _written(tmp_path, name)
    read_volume(path)
    whole = data.read_bytes()
    data.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableFile, match="can't be read as an image"):
        read_volume(path)


@pytest.mark.parametrize("name", ["gzip.nrrd", "packed.mha"])
def test_a_damaged_stream_is_refused(tmp_path, name):
    path, _ = _written(tmp_path, name)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 40] = bytes(40)
    path.write_bytes(whole)
    with pytest.raises(UnreadableFile, match="can't be read as an image"):
        read_volume(path)


def test_a_list_of_slices_that_is_too_short_is_refused(tmp_path):
    for k, plane in enumerate(DATA):
        (tmp_path / f"{k}.raw").write_bytes(plane.tobytes())
    names = "\n".join(f"{k}.raw" for k in range(5))
    head = NRRD.replace("SPACE", "space: left-posterior-superior")
    listed = tmp_path / "a.nhdr"
    listed.write_text(f"{head}data file: LIST\n{names}\n")
    np.testing.assert_array_equal(read_volume(listed).data, DATA)
    for shorter in (names[:-6], names.replace("4.raw", "none.raw")):
        listed.write_text(f"{head}data file: LIST\n{shorter}\n")
        with pytest.raises(UnreadableFile):
            read_volume(listed)


@pytest.mark.parametrize("kind", ["shirt", "block"])
def test_an_unknown_type_is_refused(tmp_path, kind):
    text = NRRD.replace("SPACE", "space: LPS").replace("short", kind) + "\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + DATA.tobytes())
    with pytest.raises(UnreadableFile, match="can't be read as an image"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_a_header_that_promises_too_much_allocates_nothing(tmp_path, kind):
    import resource

    packed = zlib.compress(DATA.tobytes())
    if kind == "nrrd":
        text = (
            NRRD.replace("SPACE", "space: LPS")
            .replace("7 6 5", "2048 2048 2048")
            .replace("raw", "gzip")
            + "\n"
        )
    else:
        text = (
            "ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = 2048 2048 2048\n"
            "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        )
    path = tmp_path / f"a.{kind}"
    path.write_bytes(text.encode() + packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableFile, match="17179869184"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
