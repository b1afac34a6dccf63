"""Every command that a document tells the reader to type is read by the product's own parsers."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from midiffusion import cli
from midiffusion.arguments import UsageError

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "MIDiffusionTranslate/Resources/Models/README.md"]
    + list((ROOT / "docs").glob("*.md"))
)
_COMMAND = re.compile(r"(?:timeout \d+ )?(?:\S*/)?(?:python\S* -m )?(?:\S*/)?midiffusion (.*)")


def commands(text: str) -> list[str]:
    """The arguments of every call of `midiffusion`: on the lines of code blocks, and in the text
    where an option is named with them (`midiffusion benchmark lmi|table` is no call, nor is what
    ends in "...")."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    lines += [span for span in spans if " --" in span and "..." not in span]
    found = (_COMMAND.match(line.strip()) for line in lines)
    return [match[1] for match in found if match]


def read(command: str) -> None:
    """Parses the arguments as the command line would, and does nothing else."""
    words = shlex.split(re.split(r"\s(?:&|\d?>|\|)", command)[0], comments=True)
    for names, (module, _) in cli.DELEGATED.items():
        if tuple(words[: len(names)]) == names:
            parser = importlib.import_module(f"midiffusion.{module}")._parser()
            words = words[len(names) :]
            break
    else:
        parser = cli._parser()
    if words[-1:] != ["--help"]:  # which would end the process
        parser.parse_args(words)


FOUND = [
    pytest.param(command, id=f"{path.relative_to(ROOT)}: {command[:60]}")
    for path in DOCUMENTS
    for command in commands(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("command", FOUND)
def test_documented_commands_are_understood(command):
    read(command)


def test_commands_are_found_wherever_they_stand():
    text = (
        "Text with `midiffusion models show ID --json` and `midiffusion train`.\n\n"
        "```\n.venv/bin/midiffusion translate a --to b \\\n    -o c  # why\n"
        "python -m midiffusion benchmark lmi\nmake demo\n```\n"
    )
    calls = ["translate a --to b      -o c  # why", "benchmark lmi", "models show ID --json"]
    assert commands(text) == calls
    documents = {param.id.split(":")[0] for param in FOUND}
    assert {"README.md", "docs/gpu-runbook.md", "docs/results.md"} <= documents


@pytest.mark.parametrize(
    "command",
    [
        "benchmark table --dataset synthrad --data DATA",
        "benchmark steering --root DATA",
        "translate a --to b",
        "benchmark fun",
        "benchmark fun > log 2>&1 &",
    ],
)
def test_a_command_that_rots_is_found(command):
    with pytest.raises(UsageError):
        read(command)
