"""Every command that a document tells the reader to type is read by the product's own parsers.

Those of `midiffusion-research` are tested in research/tests.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from midiffusion import cli
from midiffusion.arguments import UsageError
from midiffusion.pipeline.translate import STEPS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [ROOT / "MIDiffusionTranslate/Resources/Models/README.md"]
    + list((ROOT / "docs").glob("*.md"))
)
MOST_LINES = {"README": 150, "CONTRIBUTING": 80, "tutorial": 80, "python-api": 80, "pipeline": 120}
MOST_LINES |= {"method": 180, "lmi": 70, "deviations": 60, "architecture": 90, "offline": 50}
MOST_LINES |= {"training": 80, "gpu-runbook": 60}
_COMMAND = r"(?:timeout \d+ )?(?:\S*/)?(?:python\S* -m )?(?:\S*/)?{program} (.*)"


def commands(text: str, program: str = "midiffusion") -> list[str]:
    """The arguments of every call of a program: on the lines of code blocks, and in the text where
    an option is named with them (`midiffusion models list|show` is no call, nor is what ends in
    "...")."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    lines += [span for span in spans if " --" in span and "..." not in span]
    pattern = re.compile(_COMMAND.format(program=program))
    found = (pattern.match(line.strip()) for line in lines)
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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_to_files_of_the_repository(path):
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (path.parent / link).exists()]
    assert not missing


def test_every_step_of_the_pipeline_has_its_section():
    text = (ROOT / "docs/pipeline.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sections == [step.name for step in STEPS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_documents_stay_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES.get(path.stem, 10_000)


def test_commands_are_found_wherever_they_stand():
    text = (
        "Text with `midiffusion models show ID --json` and `midiffusion train`.\n\n"
        "```\n.venv/bin/midiffusion translate a --to b \\\n    -o c  # why\n"
        "python -m midiffusion models list\nmidiffusion-research lmi\nmake demo\n```\n"
    )
    calls = ["translate a --to b      -o c  # why", "models list", "models show ID --json"]
    assert commands(text) == calls
    assert commands(text, "midiffusion-research") == ["lmi"]
    documents = {param.id.split(":")[0] for param in FOUND}
    assert "README.md" in documents


@pytest.mark.parametrize(
    "command",
    [
        "translate a --to b",
        "translate a --to b -o c --detail",
        "train --targets t1 --out o",
        "fun",
        "fun > log 2>&1 &",
    ],
)
def test_a_command_that_rots_is_found(command):
    with pytest.raises(UsageError):
        read(command)
