"""The command line: `midiffusion translate | models | train | benchmark`.

Exit 0 with the result in place, or non-zero with one line `error: ...` on stderr and no output
file (2: the arguments are wrong, 130: cancelled by Ctrl-C or SIGTERM, 1: anything else). `train`
alone leaves what it has so far. Whatever can be refused without torch is refused before torch is
imported. Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import __version__, memory, registry
from .arguments import Arguments, UsageError, device_name
from .errors import (
    Cancelled,
    DependencyMissing,
    InvalidParameter,
    MIDiffusionError,
    UnlikelySource,
)
from .progress import DownloadBar, TranslationBar

# Commands with arguments of their own: the module whose main(argv) reads them, and a line of help.
DELEGATED = {
    ("train",): ("training.cli", "train a target model from images"),
    ("benchmark", "lmi"): ("evaluation.lmi_benchmark", "time and memory of the LMI layer"),
    ("benchmark", "sampler"): ("evaluation.sampler_benchmark", "quality against evaluations"),
    ("benchmark", "speed"): ("evaluation.speed.command", "where time and memory go"),
    ("benchmark", "table"): ("evaluation.table", "fidelity figures on the validation subjects"),
    ("benchmark", "ablation"): ("evaluation.ablation", "what each choice of the method is worth"),
    ("benchmark", "steering"): ("evaluation.steering", "how much LMI steers the result"),
    ("benchmark", "uncertainty"): ("evaluation.uncertainty", "doubt against the true error"),
    ("benchmark", "robustness"): ("evaluation.robustness", "what worse sources cost"),
    ("benchmark", "windows"): ("evaluation.windows", "how far a result may follow its source"),
    ("benchmark", "sources"): ("evaluation.sources", "which sources a model warns of"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. `argv` defaults to the process's arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _terminated_as_interrupted():
            return _run(arguments)
    except UsageError as error:
        return _fail(str(error), code=2)
    except Cancelled as error:
        return _fail(str(error), code=130)
    except KeyboardInterrupt:
        return _fail("cancelled.", code=130)
    except MIDiffusionError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "midiffusion":
            raise
        return _fail(str(_missing(error)))
    except MemoryError:
        return _fail(str(memory.shortage(None, memory.peak_bytes())))
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev -m midiffusion ...
            raise
        return _fail(f"unexpected {type(error).__name__}: {error} (python -X dev shows where).")


def _run(arguments: list[str]) -> int:
    for words, (module, _) in DELEGATED.items():
        if tuple(arguments[: len(words)]) == words:
            delegate = importlib.import_module(f"{__package__}.{module}")
            return int(delegate.main(arguments[len(words) :]) or 0)
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, so that it, too, leaves no temporary file."""
    if threading.current_thread() is not threading.main_thread():  # handlers are its alone
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion",
        description="Zero-shot translation of medical volumes between modalities. "
        "Research use only, not for diagnosis.",
    )
    parser.add_argument("--version", action="version", version=f"midiffusion {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_translate(commands.add_parser("translate", help="translate one volume"))
    _add_models(commands.add_parser("models", help="list, show and verify models"))
    # Known here for their help line only: _run hands them on before anything is parsed.
    benchmark = commands.add_parser("benchmark", help="measure").add_subparsers(
        required=True, metavar="BENCHMARK"
    )
    for words, (_, text) in DELEGATED.items():
        (benchmark if len(words) > 1 else commands).add_parser(words[-1], help=text)
    return parser


def _add_translate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="volume: .nii, .nii.gz, .nrrd or .mha")
    add("--to", required=True, metavar="MODEL_ID", help="model, by id or by folder")
    add("-o", "--output", required=True, metavar="OUT", type=Path, help="where to write the result")
    add("--steps", type=int, metavar="N", help="network evaluations per slice and sample")
    add("--seed", type=int, default=0, metavar="S", help="seed of the noise (default 0)")
    add("--samples", type=int, default=1, metavar="K", help="samples to average (default 1)")
    add("--uncertainty", metavar="OUT2", type=Path, help="write the samples' standard deviation")
    add("--no-detail", action="store_true", help="LMI alone: take no detail from the source")
    add("--device", default="auto", type=device_name, help="auto (default), cuda[:i], mps or cpu")
    add("--model-folder", metavar="DIR", type=Path, help="folder with more models")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=translate)


def _add_models(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, command, text in (
        ("list", list_models, "the models there are"),
        ("show", show_model, "the card of one model"),
        ("verify", verify_model, "compare the weights with the card"),
    ):
        action = actions.add_parser(name, help=text)
        if name != "list":
            action.add_argument("model", metavar="ID", help="model, by id or by folder")
        action.add_argument("--model-folder", metavar="DIR", type=Path)
        action.add_argument("--json", action="store_true", help="print the result as JSON")
        action.set_defaults(command=command)
    action = actions.add_parser("download", help="fetch a model into a folder of models")
    add = action.add_argument
    add("url", metavar="URL", help="address of the folder of card.json and weights.safetensors")
    add("--model-folder", required=True, metavar="DIR", type=Path, help="where models go")
    add("--sha256", metavar="HEX", help="what the weights must have")
    add("--json", action="store_true", help="print the result as JSON")
    action.set_defaults(command=download_model)


def translate(options: argparse.Namespace) -> int:
    """`midiffusion translate`: checks, reads, translates, writes."""
    _check_parameters(options)
    _check_model_folder(options)
    try:
        report, title = _translated(options)
    except (KeyboardInterrupt, Cancelled):
        raise Cancelled("cancelled; nothing was written.") from None
    if options.json:
        print(json.dumps(report))
        return 0
    for path in (report["output"], report["uncertainty"]):
        if path is not None:
            print(path)
    print(f"{title}: {report['seconds']:.1f} s. Synthetic; research use, not for diagnosis.")
    return 0


def _translated(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The report of a run that has written its files, and the title of the model."""
    registry.find(options.to, options.model_folder)
    try:
        from . import io
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    targets = [path for path in (options.output, options.uncertainty) if path is not None]
    for path in targets:
        io.check_target(path)
    volume = io.read_volume(options.source)
    volume.check_source()
    from .model import load_model

    model = load_model(options.to, model_folder=options.model_folder)
    started = time.monotonic()
    with (
        memory.told_with_figures(volume.data.nbytes),
        warnings.catch_warnings(),
        TranslationBar(sys.stderr) as bar,
    ):
        warnings.simplefilter("ignore", UnlikelySource)  # told below, when the bar is gone
        result = model.translate(
            volume,
            steps=options.steps,
            seed=options.seed,
            samples=options.samples,
            device=options.device,
            on_step=bar.show,
            detail=not options.no_detail,
        )
    seconds = time.monotonic() - started
    doubt = result.provenance.get("warning")
    if doubt is not None:
        print(f"warning: {doubt}", file=sys.stderr)
    volumes = [volume for volume in (result.volume, result.uncertainty) if volume is not None]
    # "synthetic" first: a NIfTI file keeps no more than the first 79 characters.
    named = {"synthetic": 1, "source": options.source.name, **result.provenance}
    attributes = {f"MIDiffusion.{key}": value for key, value in named.items()}
    io.write_volumes(list(zip(targets, volumes, strict=False)), attributes)
    report = {
        "output": str(options.output),
        "uncertainty": None if options.uncertainty is None else str(options.uncertainty),
        "seconds": round(seconds, 3),
        "warning": doubt,
        "provenance": result.provenance,
    }
    return report, model.card.title


def _check_parameters(options: argparse.Namespace) -> None:
    """Refuses what can be refused before anything is loaded. Raises MIDiffusionError."""
    if options.steps is not None and options.steps < 1:
        raise InvalidParameter(f"--steps is {options.steps}; at least 1 evaluation is needed.")
    if options.samples < 1:
        raise InvalidParameter(f"--samples is {options.samples}; at least 1 sample is needed.")
    if options.seed < 0:
        raise InvalidParameter(f"--seed is {options.seed}; it must not be negative.")
    if options.uncertainty is not None and options.samples < 2:
        raise InvalidParameter("--uncertainty needs --samples of at least 2.")
    named = [options.source, options.output, options.uncertainty]
    files = [path.resolve() for path in named if path is not None]
    if len(set(files)) < len(files):
        raise InvalidParameter("SOURCE, -o and --uncertainty must name different files.")


def _check_model_folder(options: argparse.Namespace) -> None:
    """Refuses one that isn't there, which would pass for one without models."""
    folder = options.model_folder
    if folder is not None and not os.path.isdir(os.path.expanduser(folder)):
        raise InvalidParameter(f"--model-folder: there is no folder {folder}.")


def list_models(options: argparse.Namespace) -> int:
    """`midiffusion models list`: one line per model, unusable ones with the reason."""
    _check_model_folder(options)
    entries = registry.available(options.model_folder)
    if options.json:
        print(json.dumps([_described(entry) for entry in entries]))
        return 0
    if not entries:
        print(f"No models in {registry.shipped_folder()}.", file=sys.stderr)
    for entry in entries:
        if entry.card is None or entry.problem is not None:
            print(f"{entry.id:16} cannot be used: {entry.problem}")
            continue
        terms = "non-commercial" if entry.card.non_commercial else entry.card.weights_licence
        print(f"{entry.id:16} {entry.card.title} [{entry.card.target_modality}; {terms}]")
    return 0


def show_model(options: argparse.Namespace) -> int:
    """`midiffusion models show ID`: the card."""
    _check_model_folder(options)
    entry = registry.find(options.model, options.model_folder)
    if options.json:
        print(json.dumps(_described(entry)))
    else:
        assert entry.card is not None  # find refuses an entry without
        print(f"# {entry.folder}")
        print(entry.card.to_json(), end="")
    return 0


def verify_model(options: argparse.Namespace) -> int:
    """`midiffusion models verify ID`: size and SHA-256 of the weights against the card."""
    _check_model_folder(options)
    entry = registry.find(options.model, options.model_folder)
    registry.verify(entry)
    assert entry.card is not None
    if options.json:
        print(json.dumps({"id": entry.id, "sha256": entry.card.weights_sha256, "ok": True}))
    else:
        print(f"{entry.id}: the weights are those of the card ({entry.card.weights_sha256}).")
    return 0


def download_model(options: argparse.Namespace) -> int:
    """`midiffusion models download URL`: the model, whole and checked, or nothing."""
    from .download import download

    try:
        with DownloadBar(sys.stderr) as bar:
            entry = download(
                options.url, options.model_folder, sha256=options.sha256, on_progress=bar.show
            )
    except KeyboardInterrupt:
        raise Cancelled("cancelled; nothing was written.") from None
    print(json.dumps(_described(entry)) if options.json else entry.folder)
    return 0


def _described(entry: registry.ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "folder": str(entry.folder),
        "card": None if entry.card is None else asdict(entry.card),
        "problem": entry.problem,
    }


def _missing(error: ModuleNotFoundError) -> DependencyMissing:
    return DependencyMissing(
        f"The Python package '{error.name}' is not installed; install MIDiffusion's requirements "
        "as the README says."
    )


def _fail(sentence: str, code: int = 1) -> int:
    print("error: " + " ".join(sentence.split()), file=sys.stderr)
    return code
