"""The command line: every refusal its own sentence, a non-zero exit and no file; hand-over of
arguments; the translation itself, through a fake model where the fault is what is tested."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import midiffusion.model
import numpy as np
import pytest
import SimpleITK as sitk
from bundles import saveTiny
from midiffusion import cli
from midiffusion.errors import Cancelled, DiskFull, OutOfMemory
from midiffusion.io import read_volume, write_volume
from midiffusion.model import Translation
from midiffusion.sampling import Progress
from midiffusion.volume import Volume


@pytest.fixture
def source(tmp_path: Path) -> Path:
    data = np.random.default_rng(0).random((3, 5, 4), dtype=np.float32)
    path = tmp_path / "source.nrrd"
    write_volume(path, Volume(data, np.diag([2.0, 2.0, 3.0, 1.0])))
    return path


@pytest.fixture
def run(tmp_path: Path, make_bundle: Callable[..., Path], capsys) -> Callable[..., Any]:
    """run(*arguments) -> (exit code, stdout, stderr) with the toy bundle's folder named."""
    make_bundle()

    def run(*arguments: object) -> tuple[int, str, str]:
        folder = ("--model-folder", tmp_path / "models")
        code = cli.main([str(word) for word in (*arguments, *folder)])
        return (code, *capsys.readouterr())

    return run


class FakeModel:
    """Stands for a loaded model: the result is the source plus one, or the fault it was given."""

    card = argparse.Namespace(title="Toy target")

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.keywords: dict[str, Any] = {}

    def translate(self, volume: Volume, *, samples: int, on_step: Any, **keywords: Any):
        self.keywords = keywords
        if self.fault is not None:
            raise self.fault
        result = Volume(volume.data + 1, volume.ijkToRAS)
        return Translation(result, result if samples > 1 else None, {"model": "toy", "steps": 9})


@pytest.fixture
def fake(monkeypatch) -> Callable[..., FakeModel]:
    def install(fault: BaseException | None = None) -> FakeModel:
        model = FakeModel(fault)
        monkeypatch.setattr(midiffusion.model, "load_model", lambda *_, **__: model)
        return model

    return install


def assert_refused(answer: tuple[int, str, str], sentence: str, code: int = 1) -> None:
    got, out, err = answer
    assert got == code
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("translate",), "required: SOURCE, --to, -o"),
        (("translate", "a", "--to", "toy", "-o", "b.nrrd", "--device", "tpu"), "'tpu' is not auto"),
        (("translate", "a", "--to", "toy", "-o", "b.nrrd", "--steps", "x"), "invalid int value"),
        (("translate", "a", "--to", "toy", "-o", "b.nrrd", "--colour"), "--colour"),
        (("models",), "required: ACTION"),
        (("models", "show"), "required: ID"),
        (("benchmark",), "required: BENCHMARK"),
        (("benchmark", "fun"), "invalid choice: 'fun'"),
        (("transmogrify",), "invalid choice: 'transmogrify'"),
        (("train",), "required: --target, --data, --out"),
        (("train", "--target", "a", "--data", ".", "--out", "o", "--device", "tpu"), "'tpu' is no"),
        (("train", "--target", "a", "--data", ".", "--out", "o", "--max-minutes", "x"), "invalid"),
        (("benchmark", "lmi", "--size", "x"), "invalid int value"),
        (("benchmark", "lmi", "--colour"), "--colour"),
        (("benchmark", "sampler"), "required: --data"),
        (("benchmark", "table", "--data", "."), "required: --dataset"),
        (("benchmark", "table", "--data", ".", "--dataset", "synthrad"), "choice: 'synthrad'"),
        (("benchmark", "steering", "--data", ".", "--device", "tpu"), "'tpu' is not auto"),
        # An option that is not spelt out is no option, here or below any command.
        (("translate", "a", "--to", "toy", "-o", "b.nrrd", "--dev", "cpu"), "--dev"),
        (("models", "show", "toy", "--js"), "--js"),
        (("train", "--target", "a", "--data", ".", "--out", "o", "--res"), "--res"),
        (("benchmark", "lmi", "--repeat", "1"), "--repeat 1"),
        (("benchmark", "sampler", "--data", ".", "--sample", "heun"), "--sample heun"),
        (
            ("benchmark", "table", "--data", ".", "--dataset", "ixi", "--out", "o", "--method"),
            "--method",
        ),
        (("benchmark", "steering", "--dat", "."), "required: --data"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(capsys, arguments, sentence):
    code = cli.main(arguments)
    assert_refused((code, *capsys.readouterr()), sentence, code=2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("--steps", "0"), "--steps is 0"),
        (("--samples", "0"), "--samples is 0"),
        (("--seed", "-1"), "--seed is -1"),
        (("--uncertainty", "u.nrrd"), "--uncertainty needs --samples of at least 2"),
        (("--to", "nope"), "no model 'nope'; the models found are: "),
        (("-o", "result.png"), ".nii"),
        (("-o", "source.nrrd/below/result.nrrd"), "source.nrrd"),
        (("-o", "missing/result.nrrd"), "missing"),
        (("-o", "folder.nrrd"), "is a folder"),
        (("-o", "source.nrrd"), "must name different files"),
        (("--samples", "2", "--uncertainty", "out.nrrd"), "must name different files"),
        (("--samples", "2", "--uncertainty", "missing/u.nrrd"), "missing"),
    ],
)
def test_refused_before_anything_is_loaded(run, source, tmp_path, monkeypatch, changes, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.nrrd").mkdir()
    monkeypatch.setattr(midiffusion.model, "load_model", None)
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
        ("nan.nrrd", "NaN"),
    ],
)
def test_unusable_source(run, fake, tmp_path, name, sentence):
    fake()
    data = np.zeros((3, 4, 5), np.float32)
    (tmp_path / "text.nrrd").write_text("not an image")
    _volume(tmp_path / "constant.nrrd", data)
    data[1, 1, 1] = np.nan
    _volume(tmp_path / "nan.nrrd", data)
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
    def full(_path: Path) -> None:
        raise MemoryError

    large, out = tmp_path / "large.nrrd", tmp_path / "out.nrrd"
    _volume(large, np.eye(512, dtype=np.float32)[None].repeat(3, axis=0))
    fake(MemoryError())
    if where == "reading":
        monkeypatch.setattr("midiffusion.io.read_volume", full)
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
    options = ("--samples", 2, "--uncertainty", outputs[1])
    answer = run("translate", source, "--to", "toy", "-o", outputs[0], *options)
    assert_refused(answer, "disk is full")
    assert sorted(tmp_path.rglob("*")) == before
    assert all(path.read_text() == "the user's own" for path in outputs if there_before)


@pytest.mark.parametrize("detail", [True, False])
def test_translate_writes_both_files_and_reports(run, fake, source, tmp_path, detail):
    model = fake()
    out, spread = tmp_path / "out.nii.gz", tmp_path / "spread.mha"
    options = ["--steps", 5, "--seed", 3, "--samples", 2, "--uncertainty", spread, "--json"]
    options += [] if detail else ["--no-detail"]
    code, text, _ = run("translate", source, "--to", "toy", "-o", out, *options)
    assert code == 0
    report = json.loads(text)
    assert report["output"] == str(out) and report["uncertainty"] == str(spread)
    assert report["provenance"] == {"model": "toy", "steps": 9}
    assert model.keywords == {"steps": 5, "seed": 3, "device": "auto", "detail": detail}
    given, got = read_volume(source), read_volume(out)
    np.testing.assert_allclose(got.data, given.data + 1)
    np.testing.assert_allclose(got.ijkToRAS, given.ijkToRAS)
    assert spread.is_file()


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


def test_models_list_show_verify_as_json(run, make_bundle):
    make_bundle("models/broken", pixel_mm=0)
    code, text, _ = run("models", "list", "--json")
    listed = {entry["id"]: entry for entry in json.loads(text)}
    assert code == 0
    assert listed["toy"]["card"]["title"] == "Toy target" and listed["toy"]["problem"] is None
    assert listed["broken"]["card"] is None and "'pixel_mm'" in listed["broken"]["problem"]
    assert json.loads(run("models", "show", "toy", "--json")[1])["card"]["id"] == "toy"
    assert json.loads(run("models", "verify", "toy", "--json")[1])["ok"] is True


def test_models_list_says_why_one_cannot_be_used(run, make_bundle):
    make_bundle("models/broken", pixel_mm=0)
    code, text, _ = run("models", "list")
    assert code == 0
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "Toy target" in lines["toy"]
    assert "cannot be used" in lines["broken"] and "'pixel_mm'" in lines["broken"]


def test_verify_fails_on_a_flipped_byte(run, tmp_path):
    (tmp_path / "models/toy/weights.safetensors").write_bytes(b"wejghts")
    assert_refused(run("models", "verify", "toy"), "SHA-256 differs")


@pytest.mark.parametrize(("words", "module"), [(k, v[0]) for k, v in cli.DELEGATED.items()])
def test_remaining_arguments_are_handed_on_as_they_are(monkeypatch, words, module):
    given: list[str] = []
    stand_in = types.ModuleType(module)
    stand_in.main = lambda argv: given.extend(argv) or 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"midiffusion.{module}", stand_in)
    assert cli.main([*words, "--help", "--max-minutes", "3", "-x"]) == 7
    assert given == ["--help", "--max-minutes", "3", "-x"]


@pytest.mark.parametrize(("words", "module"), [(k, v[0]) for k, v in cli.DELEGATED.items()])
def test_every_command_named_exists(words, module):
    done = subprocess.run(
        [sys.executable, "-m", "midiffusion", *words, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


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
    command += ["-o", str(out), "--steps", "1", "--samples", "2", "--uncertainty", str(spread)]
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


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "step": 2, "of": 4, "slices_done": 5, "slices": 10, "eta_s": 12.4, "device": "cpu",
        "memory_bytes": 0, "preview": None,
    }  # fmt: skip
    return Progress(**{**values, **changes})


class Stream:
    def __init__(self, live: bool) -> None:
        self.live, self.text = live, ""

    def isatty(self) -> bool:
        return self.live

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_bar_on_a_terminal_shows_the_share_done_and_goes_away():
    stream = Stream(live=True)
    with cli.TranslationBar(stream) as bar:  # type: ignore[arg-type]
        bar.show(progress())  # one step of four and half of the second: 9 of 24 marks
        assert "[" + "#" * 9 + " " * 15 + "] step 2 of 4 on cpu, 12 s left" in stream.text
    assert stream.text.endswith("\r\x1b[K") and "\n" not in stream.text


def test_bar_elsewhere_is_quiet_for_some_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = Stream(live=False)
    with cli.TranslationBar(stream) as bar:  # type: ignore[arg-type]
        for now[0] in (0.1, 4.9, 5.1, 5.2, 10.3):
            bar.show(progress(eta_s=None))
    assert stream.text == 2 * " 38 %  step 2 of 4 on cpu\n"


INTERRUPTED = """
import sys, time, types
import midiffusion.model
import SimpleITK as sitk
from midiffusion.cli import main
from midiffusion.model import Translation

def wait():
    print("running", flush=True)
    time.sleep(60)

def translate(volume, **_):
    if sys.argv[1] == "translating":
        wait()
    return Translation(volume, None, {})

def write(image, path, **keywords):
    written(image, path, **keywords)
    wait()

written, sitk.WriteImage = sitk.WriteImage, write
model = types.SimpleNamespace(translate=translate)
midiffusion.model.load_model = lambda *_, **__: model
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("during", ["translating", "writing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_cleanly(source, make_bundle, tmp_path, number, during):
    """A real process, interrupted while its (fake) model runs, or with a temporary file there."""
    make_bundle()
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out.nrrd"
    command = ["translate", str(source), "--to", "toy", "-o", str(out)]
    command += ["--model-folder", str(tmp_path / "models")]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, during, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        # What a shell starts in the background ignores SIGINT, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "error: cancelled; nothing was written.\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("words", "module"), [(k, v[0]) for k, v in cli.DELEGATED.items()])
def test_a_cancelled_command_claims_nothing_of_its_files(monkeypatch, capsys, words, module):
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"midiffusion.{module}.main", interrupted)
    assert_refused((cli.main(words), *capsys.readouterr()), "error: cancelled.\n", code=130)


@pytest.mark.parametrize(
    ("checkpoint", "options", "sentence"),
    [
        (True, [], "go on with --resume."),
        (False, ["--resume"], "go on with --resume."),
        (False, [], "there is no checkpoint yet."),
    ],
)
def test_a_cancelled_training_says_how_to_go_on(
    monkeypatch, capsys, tmp_path, checkpoint, options, sentence
):
    def train(*_: object, on_checkpoint: Callable[[None], None], **__: object) -> None:
        if checkpoint:
            on_checkpoint(None)
        raise KeyboardInterrupt

    monkeypatch.setattr("midiffusion.training.cli.train", train)
    monkeypatch.setattr("midiffusion.training.cli.export_bundle", lambda *_: None)
    arguments = ["train", "--target", "flair", "--data", tmp_path, "--out", tmp_path / "out"]
    code = cli.main([*map(str, arguments), "--device", "cpu", *options])
    assert_refused((code, *capsys.readouterr()), f"error: cancelled; {sentence}\n", code=130)
