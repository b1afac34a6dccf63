"""The commands there are: wrong arguments refused in one line, the others handed on."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from library.conftest import assert_refused
from midiffusion import cli


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
        (("transmogrify",), "invalid choice: 'transmogrify'"),
        (("train",), "required: --out"),
        (("train", "--target", "a", "--data", ".", "--out", "o", "--device", "tpu"), "'tpu' is no"),
        (("train", "--target", "a", "--data", ".", "--out", "o", "--max-minutes", "x"), "invalid"),
        # An option that is not spelt out is no option, here or below any command.
        (("translate", "a", "--to", "toy", "-o", "b.nrrd", "--dev", "cpu"), "--dev"),
        (("models", "show", "toy", "--js"), "--js"),
        (("train", "--target", "a", "--data", ".", "--out", "o", "--res"), "--res"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(capsys, arguments, sentence):
    code = cli.main(arguments)
    assert_refused((code, *capsys.readouterr()), sentence, code=2)


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
