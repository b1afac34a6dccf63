"""The command line of the research package: `midiffusion-research COMMAND ...`.

Exit codes and error lines are those of `midiffusion` (see `midiffusion.cli`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from midiffusion import __version__, cli
from midiffusion.arguments import Arguments

# The module whose main(argv) is the command, and a line of help.
COMMANDS = {
    "table": ("table", "fidelity of every method on the validation subjects"),
    "study": ("study", "fidelity on whole heads, with each step of the pipeline left out"),
    "uncertainty": ("uncertainty", "error map and deviation against the true error"),
    "robustness": ("robustness", "loss of fidelity for disturbed sources"),
    "sources": ("sources", "which sources raise the familiarity warning"),
    "sampler": ("sampler_benchmark", "fidelity against network evaluations, for every sampler"),
    "fuzz": ("fuzz", "damaged files of every format, read under a memory limit"),
    "lmi": ("lmi_benchmark", "time and memory of the LMI layer"),
    "speed": ("speed.command", "time and memory of a translation, by stages"),
    "whole-head-robustness": ("whole_head_robustness", "disturbed sources of whole heads"),
    "samples": ("sample_figures", "samples against the mean and the real target"),
    "detail-windows": ("detail_windows", "windows and blurs of the detail step, training subjects"),
    "cohort": ("cohort_benchmark", "a cohort against single translations, memory, and kills"),
    "study-data": ("study_data", "a BIDS dataset of generated subjects"),
    "training-images": ("training_images", "real training images as a folder of slices"),
    "model-cards": ("model_cards", "write docs/models from the cards"),
    "performance": ("performance_document", "write docs/performance.md from the result files"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. `argv` defaults to the process's arguments."""
    return cli.run_command(_run, sys.argv[1:] if argv is None else argv)


def parser() -> Arguments:
    """Of the first word; a command reads the others itself."""
    made = Arguments(prog="midiffusion-research", description=__doc__.split("\n")[0])
    made.add_argument("--version", action="version", version=f"midiffusion-research {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    return made


def _run(arguments: list[str]) -> int:
    if arguments[:1] and arguments[0] in COMMANDS:
        module, _ = COMMANDS[arguments[0]]
        command = importlib.import_module(f"midiffusion_research.{module}")
        return int(command.main(arguments[1:]) or 0)
    parser().parse_args(arguments)  # --help, --version, or what is wrong
    return 0
