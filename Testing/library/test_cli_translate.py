"""`midiffusion translate`: its refusals, its files and what it says; through a fake model where the
fault is what is tested."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import midiffusion.pipeline.target
import numpy as np
import pytest
import SimpleITK as sitk
from bundles import saveTiny
from library.conftest import assert_refused
from midiffusion import cli
from midiffusion.errors import Cancelled, DiskFull, OutOfMemory
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.pipeline.translate import Translation


class FakeModel:
    """Stands for a loaded model: the result is the source plus one, or the fault it was given."""

    card = argparse.Namespace(title="Toy target")

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.options: TranslationOptions | None = None

    def translate(self, volume: Volume, options: TranslationOptions, on_progress: Any):
        self.options = options
        if self.fault is not None:
            raise self.fault
        result = Volume(volume.data + 1, volume.ijkToRAS)
        return Translation(
            result,
            result if options.views > 1 else None,
            result if options.samples > 1 else None,
            {"model": "toy", "steps": 9, "sourceTakenAs": "MR"},
        )


@pytest.fixture
def fake(monkeypatch) -> Callable[..., FakeModel]:
    def install(fault: BaseException | None = None) -> FakeModel:
        model = FakeModel(fault)
        monkeypatch.setattr(midiffusion.pipeline.target, "load_model", lambda *_, **__: model)
        return model

    return install


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("--steps", "0"), "steps is 0"),
        (("--samples", "0"), "samples is 0"),
        (("--seed", "-1"), "seed is -1"),
        (("--views", "9"), "views is 9"),
        (("--deviation", "u.nrrd"), "--deviation needs --samples of at least 2"),
        (("--views", "1", "--error-map", "u.nrrd"), "--error-map needs --views of at least 2"),
        (("--to", "nope"), "no model 'nope'; the models found are: "),
        (("-o", "result.png"), ".nii"),
        (("-o", "source.nrrd/below/result.nrrd"), "source.nrrd"),
        (("-o", "missing/result.nrrd"), "missing"),
        (("-o", "folder.nrrd"), "is a folder"),
        (("-o", "source.nrrd"), "must name different files"),
        (("--error-map", "out.nrrd"), "must name different files"),
        (("--error-map", "missing/u.nrrd"), "missing"),
    ],
)
def test_refused_before_anything_is_loaded(run, source, tmp_path, monkeypatch, changes, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.nrrd").mkdir()
    monkeypatch.setattr(midiffusion.pipeline.target, "load_model", None)
    before = sorted(tmp_path.rglob("*"))
    answer = run("translate", source, "--to", "toy", "-o", "out.nrrd", *changes)
    assert_refused(answer, sentence)
    assert sorted(tmp_path.rglob("*")) == before


def _volume(path: Path, data: np.ndarray) -> None:
    write_volume(path, Volume(data, np.eye(4)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent.nrrd", "absent.nrrd"),
        ("text.nrrd", "can't be read as an image"),
        ("constant.nrrd", "is constant"),
        ("infinite.nrrd", "infinite"),
    ],
)
def test_unusable_source(run, fake, tmp_path, name, sentence):
    fake()
    data = np.zeros((3, 4, 5), np.float32)
    (tmp_path / "text.nrrd").write_text("not an image")
    _volume(tmp_path / "constant.nrrd", data)
    data[1, 1, 1] = np.inf
    _volume(tmp_path / "infinite.nrrd", data)
    out = tmp_path / "out.nrrd"
    assert_refused(run("translate", tmp_path / name, "--to", "toy", "-o", out), sentence)
    assert not out.exists()


def test_corrupt_weights_and_broken_card(run, source, make_bundle, tmp_path):
    out = tmp_path / "out.nrrd"
    (tmp_path / "models/toy/weights.safetensors").write_bytes(b"wejghts")
    make_bundle("models/broken", pixel_mm=0)
    assert_refused(run("translate", source, "--to", "toy", "-o", out), "SHA-256 differs")
    assert_refused(run("translate", source, "--to", "broken", "-o", out), "'pixel_mm'")
    assert not out.exists()


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        (OutOfMemory("Not even one slice\nfits."), 1, "Not even one slice fits."),
        (MemoryError(), 1, "memory is too small for this volume of 0.0 MB ("),
        (KeyboardInterrupt(), 130, "cancelled"),
        (Cancelled("The run was cancelled."), 130, "cancelled"),
        (ModuleNotFoundError("No module", name="torch"), 1, "'torch' is not installed"),
        (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivisionError: by zero"),
    ],
)
def test_a_fault_while_translating_leaves_no_file(
    run, fake, source, tmp_path, fault, code, sentence
):
    fake(fault)
    before = sorted(tmp_path.rglob("*"))
    answer = run("translate", source, "--to", "toy", "-o", tmp_path / "out.nii.gz")
    assert_refused(answer, sentence, code)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("where", ["translating", "reading"])
def test_a_lack_of_memory_is_told_with_figures(run, fake, tmp_path, monkeypatch, where):
    def full(*_: object) -> None:
        raise MemoryError

    large, out = tmp_path / "large.nrrd", tmp_path / "out.nrrd"
    _volume(large, np.arange(3 * 512 * 512, dtype=np.float32).reshape(3, 512, 512))
    fake(MemoryError())
    if where == "reading":
        monkeypatch.setattr("midiffusion.images.io.read_volume", full)
    status, _, error = run("translate", large, "--to", "toy", "-o", out)
    assert status == 1
    size = r" of 3\.0 MB" if where == "translating" else ""
    assert re.search(rf"too small for this volume{size} \(\d+ MB used, \d+ MB free\): ", error)


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("there_before", [True, False])
def test_a_file_that_fails_leaves_both_as_they_were(
    run, fake, source, tmp_path, monkeypatch, failing, there_before
):
    fake()
    outputs = tmp_path / "out.nrrd", tmp_path / "spread.nrrd"
    if there_before:
        for path in outputs:
            path.write_text("the user's own")
    before = sorted(tmp_path.rglob("*"))
    write, calls = sitk.WriteImage, []

    def full(*arguments: Any, **keywords: Any) -> None:
        write(*arguments, **keywords)
        calls.append(arguments)
        if len(calls) == failing:
            raise DiskFull("The disk is full.")

    monkeypatch.setattr(sitk, "WriteImage", full)
    options = ("--error-map", outputs[1])
    answer = run("translate", source, "--to", "toy", "-o", outputs[0], *options)
    assert_refused(answer, "disk is full")
    assert sorted(tmp_path.rglob("*")) == before
    assert all(path.read_text() == "the user's own" for path in outputs if there_before)


def test_translate_writes_all_files_and_reports(run, fake, source, tmp_path):
    model = fake()
    out, spread, error = (tmp_path / name for name in ("out.nii.gz", "spread.mha", "error.nrrd"))
    options = ["--steps", 5, "--seed", 3, "--samples", 2, "--deviation", spread, "--json"]
    options += ["--error-map", error, "--from", "mr", "--views", 2, "--without", "detail"]
    code, text, _ = run("translate", source, "--to", "toy", "-o", out, *options)
    assert code == 0
    report = json.loads(text)
    assert report["output"] == str(out) and report["deviation"] == str(spread)
    assert report["error_map"] == str(error) and report["provenance"]["steps"] == 9
    assert model.options == TranslationOptions(
        views=2, steps=5, samples=2, seed=3, source="mr", without=("detail",)
    )
    given, got = read_volume(source), read_volume(out)
    np.testing.assert_allclose(got.data, given.data + 1)
    np.testing.assert_allclose(got.ijkToRAS, given.ijkToRAS)
    assert spread.is_file() and error.is_file()


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz"])
def test_the_file_itself_says_that_it_is_synthetic(run, fake, source, tmp_path, ending):
    fake()
    out = tmp_path / f"out.{ending}"
    assert run("translate", source, "--to", "toy", "-o", out)[0] == 0
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(out))
    reader.ReadImageInformation()
    if ending == "nrrd":
        assert reader.GetMetaData("MIDiffusion.synthetic") == "1"
        assert reader.GetMetaData("MIDiffusion.source") == "source.nrrd"
        assert reader.GetMetaData("MIDiffusion.steps") == "9"
    else:
        assert "MIDiffusion.synthetic=1" in reader.GetMetaData("descrip")


def test_translate_says_what_it_wrote(run, fake, source, tmp_path):
    fake()
    out = tmp_path / "out.nrrd"
    code, text, _ = run("translate", source, "--to", "toy", "-o", out)
    assert code == 0
    assert text.splitlines()[0] == str(out)
    assert "not for diagnosis" in text


def test_a_real_process_with_real_weights(tmp_path):
    """Nothing is replaced here: the command, a network, an oblique volume, both files."""
    saveTiny(tmp_path / "models" / "tiny")
    turn = np.deg2rad(20)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    ) * [2.0, 3.0, 4.0]
    matrix[:3, 3] = 5, -6, 7
    data = np.zeros((3, 20, 24), np.float32)
    data[:, 4:16, 5:19] = np.random.default_rng(0).uniform(50, 100, (3, 12, 14))
    source, out, spread = (tmp_path / f"{name}.nii.gz" for name in ("t1", "flair", "spread"))
    write_volume(source, Volume(data, matrix))
    command = [sys.executable, "-m", "midiffusion", "translate", str(source), "--to", "tiny"]
    command += ["-o", str(out), "--steps", "2", "--samples", "2", "--deviation", str(spread)]
    command += ["--model-folder", str(tmp_path / "models"), "--device", "cpu", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["samples"] == 2
    for path in (out, spread):
        volume = read_volume(path)
        assert volume.data.dtype == np.float32 and volume.data.shape == data.shape
        np.testing.assert_allclose(volume.ijkToRAS, matrix, atol=1e-4)
        assert np.ptp(volume.data) > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "models",
        "t1.nii.gz",
        "flair.nii.gz",
        "spread.nii.gz",
    }
