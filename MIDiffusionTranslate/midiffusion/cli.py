"""The command line: `midiffusion translate | batch | bids | models | train`.

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

from . import __version__
from .arguments import Arguments, UsageError
from .errors import Cancelled, DependencyMissing, InvalidParameter, MIDiffusionError, UnlikelySource
from .models import registry
from .pipeline.option_arguments import add_option_arguments, options_of
from .pipeline.options import TranslationOptions
from .runtime import console, memory
from .runtime.progress import DownloadBar, TranslationBar

# Commands with arguments of their own: the module whose main(argv) reads them, and a line of help.
DELEGATED = {
    ("batch",): ("cohort.batch_command", "translate a cohort"),
    ("bids",): ("cohort.bids", "translate a BIDS dataset"),
    ("train",): ("training.command", "train a target model from images"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. `argv` defaults to the process's arguments."""
    return run_command(_run, sys.argv[1:] if argv is None else argv)


def bids() -> int:
    """`midiffusion-bids`, the BIDS App."""
    return main(["bids", *sys.argv[1:]])


def run_command(run: Callable[[list[str]], int], argv: Sequence[str]) -> int:
    """`run(argv)` with what it raises turned into one line on stderr and an exit code."""
    console.prepare()
    try:
        with _terminated_as_interrupted():
            return run(list(argv))
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
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that they, too, leave no temporary file.
    A SIGHUP that is ignored, as under nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # handlers are its alone
        yield
        return
    numbers = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    for words, (_, text) in DELEGATED.items():
        commands.add_parser(words[-1], help=text)
    return parser


def _add_translate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="volume in a file, or a DICOM folder")
    add("--to", required=True, metavar="MODEL", help="target model, by id or by folder")
    add("-o", "--output", required=True, metavar="OUT", help="where to write the result")
    add("--frame", type=int, metavar="N", help="which volume of a series of volumes, from 0")
    add("--series", metavar="S", help="which series of a DICOM folder, by number or UID")
    add("--dicom", action="store_true", help="write OUT as a folder of DICOM files")
    add("--error-map", metavar="F", type=Path, help="write the expected absolute error")
    add("--deviation", metavar="F", type=Path, help="write the samples' standard deviation")
    add("--report", metavar="F", type=Path, help="write a page (HTML) with pictures and figures")
    add("--json", action="store_true", help="print the result as JSON")
    add_option_arguments(parser)
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
    options.dicom |= options.output.endswith(("/", os.sep))
    options.output = Path(options.output)
    chosen = _translation_options(options)
    _check_model_folder(options)
    try:
        report, title = _translated(options, chosen)
    except (KeyboardInterrupt, Cancelled):
        raise Cancelled("cancelled; nothing was written.") from None
    if options.json:
        console.say(json.dumps(report))
        return 0
    for path in (report["output"], report["error_map"], report["deviation"], options.report):
        if path is not None:
            console.say(str(path))
    console.say(f"{title}: {report['seconds']:.1f} s. Synthetic; research use, not for diagnosis.")
    return 0


def _translated(
    options: argparse.Namespace, chosen: TranslationOptions
) -> tuple[dict[str, Any], str]:
    """The report of a run that has written its files, and the title of the model."""
    registry.find(options.to, options.model_folder)
    try:
        from .images import io
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    targets = [options.output, options.error_map, options.deviation]
    folder = options.output if options.dicom else None
    for path in targets:
        if path is not None:
            io.check_target(path, dicom=path is folder)
    volume = io.read_volume(options.source, options.frame, options.series)
    volume.check_source()
    from .pipeline.target import load_model

    model = load_model(options.to, model_folder=options.model_folder)
    started = time.monotonic()
    with (
        memory.told_with_figures(volume.data.nbytes),
        warnings.catch_warnings(),
        TranslationBar(sys.stderr) as bar,
    ):
        warnings.simplefilter("ignore", UnlikelySource)  # printed below, when the bar is gone
        result = model.translate(volume, chosen, bar.show)
    seconds = time.monotonic() - started
    volumes = (result.volume, result.error_map, result.deviation)
    files = [(p, v) for p, v in zip(targets, volumes, strict=True) if p is not None and v]
    io.write_volumes(files, result.attributes(options.source.name), folder)
    if options.report is not None:
        from .cohort.report import page_of_one

        page_of_one(options.report, options.source.name, volume, result)
    print(f"source taken as {result.provenance['sourceTakenAs']}", file=sys.stderr)
    warning = result.provenance.get("warning")
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    report = {
        "output": str(options.output),
        "error_map": None if options.error_map is None else str(options.error_map),
        "deviation": None if options.deviation is None else str(options.deviation),
        "seconds": round(seconds, 3),
        "warning": warning,
        "provenance": result.provenance,
    }
    return report, model.card.title


def _translation_options(options: argparse.Namespace) -> TranslationOptions:
    """Refuses what can be refused before anything is loaded. Raises InvalidParameter."""
    chosen = options_of(options)
    if options.deviation is not None and options.samples < 2:
        raise InvalidParameter("--deviation needs --samples of at least 2.")
    if options.error_map is not None and options.views < 2:
        raise InvalidParameter("--error-map needs --views of at least 2.")
    named = [
        getattr(options, name) for name in ("source", "output", "error_map", "deviation", "report")
    ]
    files = [path.resolve() for path in named if path is not None]
    if len(set(files)) < len(files):
        raise InvalidParameter(
            "SOURCE, -o, --error-map, --deviation and --report must name different files."
        )
    return chosen


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
        console.say(json.dumps([_described(entry) for entry in entries]))
        return 0
    if not entries:
        print(f"No models in {registry.shipped_folder()}.", file=sys.stderr)
    for entry in entries:
        if entry.card is None or entry.problem is not None:
            console.say(f"{entry.id:16} cannot be used: {entry.problem}")
            continue
        terms = "non-commercial" if entry.card.non_commercial else entry.card.weights_licence
        console.say(f"{entry.id:16} {entry.card.title} [{entry.card.target_modality}; {terms}]")
    return 0


def show_model(options: argparse.Namespace) -> int:
    """`midiffusion models show ID`: the card."""
    _check_model_folder(options)
    entry = registry.find(options.model, options.model_folder)
    if options.json:
        console.say(json.dumps(_described(entry)))
    else:
        assert entry.card is not None  # find refuses an entry without
        console.say(f"# {entry.folder}")
        console.say(entry.card.to_json().rstrip("\n"))
    return 0


def verify_model(options: argparse.Namespace) -> int:
    """`midiffusion models verify ID`: size and SHA-256 of the weights against the card."""
    _check_model_folder(options)
    entry = registry.find(options.model, options.model_folder)
    registry.verify(entry)
    assert entry.card is not None
    if options.json:
        console.say(json.dumps({"id": entry.id, "sha256": entry.card.weights_sha256, "ok": True}))
    else:
        console.say(f"{entry.id}: the weights are those of the card ({entry.card.weights_sha256}).")
    return 0


def download_model(options: argparse.Namespace) -> int:
    """`midiffusion models download URL`: the model, whole and checked, or nothing."""
    from .models.download import download

    try:
        with DownloadBar(sys.stderr) as bar:
            entry = download(
                options.url, options.model_folder, sha256=options.sha256, on_progress=bar.show
            )
    except KeyboardInterrupt:
        raise Cancelled("cancelled; nothing was written.") from None
    console.say(json.dumps(_described(entry)) if options.json else str(entry.folder))
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
