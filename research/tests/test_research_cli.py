"""The command line of the research package, and the commands that documents name."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from midiffusion.arguments import UsageError
from midiffusion_research import cli
from static.test_documents import commands

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*(ROOT / "docs").glob("*.md"), *(ROOT / "research/docs").glob("*.md"), ROOT / "README.md"]
)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "required: COMMAND"),
        (("fun",), "invalid choice: 'fun'"),
        (("lmi", "--size", "x"), "invalid int value"),
        (("lmi", "--colour"), "--colour"),
        (("lmi", "--repeat", "1"), "--repeat 1"),
        (("sampler",), "required: --data"),
        (("sampler", "--data", ".", "--sample", "heun"), "--sample heun"),
        (("table", "--data", "."), "required: --dataset"),
        (("table", "--data", ".", "--dataset", "synthrad"), "choice: 'synthrad'"),
        (("table", "--data", ".", "--dataset", "ixi", "--out", "o", "--method"), "--method"),
        (("robustness", "--data", ".", "--device", "tpu"), "'tpu' is not auto"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(run, arguments, sentence):
    code, out, err = run(*arguments)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sentence in err


def test_every_command_has_a_main():
    for module, _ in cli.COMMANDS.values():
        assert callable(importlib.import_module(f"midiffusion_research.{module}").main)


class _ReadError(Exception):
    """The arguments were understood; nothing else is to be done."""


def _read(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Parses the arguments as the command line would, and does nothing else."""
    from midiffusion.arguments import Arguments

    words = shlex.split(re.split(r"\s(?:&|\d?>|\|)", command)[0], comments=True)
    if words[-1:] == ["--help"]:  # which would end the process
        return
    parse = Arguments.parse_args

    def stop(*arguments, **keywords):
        parse(*arguments, **keywords)
        raise _ReadError

    monkeypatch.setattr(Arguments, "parse_args", stop)
    with pytest.raises(_ReadError):
        cli._run(words)


FOUND = [
    pytest.param(command, id=f"{path.relative_to(ROOT)}: {command[:60]}")
    for path in DOCUMENTS
    for command in commands(path.read_text(encoding="utf-8"), "midiffusion-research")
]


@pytest.mark.parametrize("command", FOUND)
def test_documented_commands_are_understood(monkeypatch, command):
    _read(monkeypatch, command)


@pytest.mark.parametrize("command", ["table --data DATA", "robustness --root DATA", "fun"])
def test_a_command_that_rots_is_found(monkeypatch, command):
    with pytest.raises(UsageError):
        _read(monkeypatch, command)
