"""The command line as a process, with a real network: files of labs and hospitals, odd streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from bundles import saveTiny
from dicomfiles import save_series
from midiffusion import cli
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume

SHAPE = (4, 30, 28)
TILT = np.array([[2.0, 0, 0, -28], [0, 2, 1.2, -30], [0, 0, 5, 3], [0, 0, 0, 1]])
posix = pytest.mark.skipif(os.name == "nt", reason="shells and names of POSIX")


def picture() -> np.ndarray:
    data = np.zeros(SHAPE, np.int16)
    data[:, 5:25, 5:23] = np.random.default_rng(0).integers(300, 900, (4, 20, 18))
    return data


@pytest.fixture
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    saveTiny(folder / "tiny")
    return folder


@pytest.fixture
def translate(models: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """translate(source, output, *options, shell=...): one process. shell: around the command."""

    def run(source: Any, output: Any, *options: str, shell: str = "{}", **environment: str):
        words = [sys.executable, "-m", "midiffusion", "translate", source, "-o", output]
        words += ["--to", "tiny", "--model-folder", models, "--views", "1", "--device", "cpu"]
        words = [os.fsencode(word) for word in (*map(str, words), *options)]
        quoted = b" ".join(b"'" + word + b"'" for word in words)
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", os.fsencode(shell).replace(b"{}", quoted)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), **environment},
        )

    return run


@posix
def test_a_dicom_folder_becomes_a_dicom_folder(translate, tmp_path):
    lps = np.diag([-1.0, -1, 1, 1]) @ TILT
    save_series(tmp_path / "in", picture(), lps)
    save_series(tmp_path / "in", picture(), lps, SeriesInstanceUID="1.2.9", SeriesNumber=8)
    done = translate(tmp_path / "in", f"{tmp_path}/out/")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "2 series: choose one of" in done.stderr
    done = translate(tmp_path / "in", f"{tmp_path}/out/", "--series", "8")
    assert done.returncode == 0, done.stderr
    assert "source taken as CT" in done.stderr
    result, source = read_volume(tmp_path / "out"), read_volume(tmp_path / "in", series="8")
    np.testing.assert_allclose(result.ijkToRAS, source.ijkToRAS, atol=1e-5)
    assert pydicom.dcmread(next((tmp_path / "out").iterdir())).SyntheticData == "YES"


@posix
def test_a_tilted_nifti_keeps_its_sform_and_qform(translate, tmp_path):
    straight = TILT.copy()
    straight[1, 2] = 0
    image = nibabel.Nifti1Image(picture().T, None)
    image.header.set_qform(straight, 1)
    image.header.set_sform(TILT, 2)
    nibabel.save(image, tmp_path / "a.nii.gz")
    done = translate(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["sourceTakenAs"] == "MR"
    header = nibabel.load(tmp_path / "b.nii.gz").header
    np.testing.assert_allclose(header.get_sform(), TILT, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), straight, atol=1e-5)
    assert (header["qform_code"], header["sform_code"]) == (1, 2)


@posix
def test_the_place_of_a_file_without_one_is_warned_of(translate, tmp_path):
    image = nibabel.Nifti1Image(picture().T, None)
    image.header.set_qform(np.diag([2, 2, 5, 1]), 0)
    image.header.set_sform(None, 0)
    image.header["pixdim"][1:4] = 2, 2, 5
    nibabel.save(image, tmp_path / "a.nii.gz")
    done = translate(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "warning: a.nii.gz says nothing of its place" in done.stderr


STREAMS = {
    "stderr closed": "{} 2>&-",
    "stdout closed": "{} >&-",
    "all closed": "{} <&- >&- 2>&-",
    "nobody reads": "{} --json | true",
}


@pytest.mark.slow
@posix
@pytest.mark.parametrize("name", STREAMS)
def test_odd_streams_change_neither_exit_code_nor_file(translate, tmp_path, name):
    write_volume(tmp_path / "a.nrrd", Volume(picture(), TILT))
    done = translate(tmp_path / "a.nrrd", tmp_path / "b.nrrd", shell=STREAMS[name])
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr and "Exception" not in done.stderr
    assert read_volume(tmp_path / "b.nrrd").data.shape == SHAPE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nrrd", "b.nrrd"]


@pytest.mark.slow
@posix
def test_names_in_other_letters_on_an_ascii_terminal(translate, tmp_path):
    ending = ".nii.gz"
    for name in (b"M\xfcller".decode(errors="surrogateescape"), "Müller"):
        folder = tmp_path / name
        folder.mkdir()
        write_volume(folder / f"{name}{ending}", Volume(picture(), TILT))
        done = translate(
            folder / f"{name}{ending}", folder / f"out{ending}", PYTHONIOENCODING="ascii"
        )
        assert done.returncode == 0, done.stderr
        assert read_volume(folder / f"out{ending}").data.shape == SHAPE
        assert len(list(folder.iterdir())) == 2


@posix
def test_what_is_no_volume_is_named(translate, tmp_path):
    os.mkfifo(tmp_path / "pipe.nrrd")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (tmp_path / "a.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n" + bytes(range(256)))
    sentences = {
        "pipe.nrrd": "a pipe",
        "a.png": "one of .nii",
        "a.mha": "can't be read",
        "": "DICOM",
    }
    for name, words in sentences.items():
        done = translate(tmp_path / name, tmp_path / "out.nrrd")
        assert done.returncode == 1 and words in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
