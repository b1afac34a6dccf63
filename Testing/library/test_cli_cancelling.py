"""A command that is cancelled, by signals too: exit code 130, one line, and nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from library.conftest import assert_refused
from midiffusion import cli

INTERRUPTED = """
import sys, time, types
import midiffusion.pipeline.target
import SimpleITK as sitk
from midiffusion.cli import main
from midiffusion.pipeline.translate import Translation

def wait():
    print("running", flush=True)
    time.sleep(60)

def translate(volume, *_):
    if sys.argv[1] == "translating":
        wait()
    return Translation(volume, None, None, {"sourceTakenAs": "MR"})

def write(image, path, **keywords):
    written(image, path, **keywords)
    wait()

written, sitk.WriteImage = sitk.WriteImage, write
model = types.SimpleNamespace(translate=translate)
midiffusion.pipeline.target.load_model = lambda *_, **__: model
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "during"),
    [
        ("SIGINT", "translating"),
        ("SIGTERM", "writing"),
        pytest.param("SIGHUP", "translating", marks=pytest.mark.slow),
    ],
)
def test_signals_end_the_process_cleanly(source, make_bundle, tmp_path, name, during):
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
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("error: cancelled; nothing was written.\n")
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
        (False, [], "there is no checkpoint yet."),
    ],
)
def test_a_cancelled_training_says_how_to_go_on(
    monkeypatch, capsys, tmp_path, checkpoint, options, sentence
):
    def target(*_: object) -> None:
        if checkpoint:
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("midiffusion.training.command._target", target)
    arguments = ["train", "--target", "flair", "--data", tmp_path, "--out", tmp_path / "out"]
    code = cli.main([*map(str, arguments), "--device", "cpu", *options])
    assert_refused((code, *capsys.readouterr()), f"error: cancelled; {sentence}\n", code=130)
