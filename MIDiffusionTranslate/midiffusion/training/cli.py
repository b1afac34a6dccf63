"""`midiffusion train`: arguments, and the order of the steps."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..arguments import Arguments, device_name
from ..device import choose_device
from ..errors import (
    Cancelled,
    DiskFull,
    InvalidData,
    InvalidParameter,
    MIDiffusionError,
    UnwritableTarget,
    disk_is_full,
)
from .configuration import TrainingConfig
from .data import SliceSource, plain_layout
from .export import describe, export_bundle
from .familiarity import write as write_familiarity
from .loop import TrainingState, train


def main(
    argv: Sequence[str],
    on_bundle: Callable[[Path, Path, str], object] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Train a target model and leave a bundle in the output folder; returns the exit code.

    on_bundle: called with the bundle's folder, the data folder and the device whenever the bundle
    has been written. stop: as `loop.train`.
    """
    args = _parser().parse_args(argv)
    data, out = Path(args.data), Path(args.out)
    if not data.is_dir():
        raise InvalidData(f"The data folder {data} does not exist.")
    if args.max_minutes is not None and args.max_minutes <= 0:
        raise InvalidParameter("--max-minutes must be above 0.")
    config = _configuration(args.config, args.target, args.like, plain_layout(data))
    describe(args.target, config, {}, sigma_data=1.0)  # what can't become a card fails here
    device = str(choose_device(args.device))
    resumable = args.resume

    def on_checkpoint(state: TrainingState) -> None:
        nonlocal resumable
        resumable = True
        export_bundle(out, args.target, config, state, device)
        if on_bundle is not None:
            on_bundle(out, data, device)

    try:
        state = train(
            config,
            data,
            out,
            device=device,
            max_minutes=args.max_minutes,
            resume=args.resume,
            on_checkpoint=on_checkpoint,
            stop=stop,
        )
    except KeyboardInterrupt:
        left = "go on with --resume." if resumable else "there is no checkpoint yet."
        raise Cancelled(f"cancelled; {left}") from None
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        write_familiarity(out, config, data)
    except InvalidData as error:
        print(f"warning: the model can't tell unlikely sources: {error}", file=sys.stderr)
    except OSError as error:
        raise _unwritable(out, error) from error
    print(f"{out}: model '{args.target}', {state.step} steps in {state.seconds / 60:.1f} minutes.")
    return 0


def _unwritable(out: Path, error: OSError) -> MIDiffusionError:
    if disk_is_full(error):
        return DiskFull(f"The disk of {out} is full: free some space and go on with --resume.")
    return UnwritableTarget(f"{out} can't be written ({error}); name another folder with --out.")


def _configuration(
    path: str | None, target: str, like: str | None, layout: str | None
) -> TrainingConfig:
    """What was asked for; the images of a plain folder replace the configuration's sources."""
    if layout is None:
        return TrainingConfig.read(path) if path else TrainingConfig.for_target(like or target)
    if like is not None:
        TrainingConfig.for_target(like)  # refuses one that is not shipped
    config = TrainingConfig.read(path) if path else TrainingConfig.for_own_images(like or target)
    if like is not None:
        named = config.card | {"title": f"{target}, own images"}
        config = dataclasses.replace(config, card=named)
    return dataclasses.replace(config, sources=(SliceSource(layout),))


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion train",
        description="Train a target model on images of its modality.",
    )
    parser.add_argument("--target", required=True, help="id of the model, e.g. flair")
    parser.add_argument(
        "--data", required=True, help="folder of volumes, slices or a known collection"
    )
    parser.add_argument(
        "--out", required=True, help="folder of the bundle, its checkpoint and log.csv"
    )
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument(
        "--config", help="training configuration (JSON); default: the target's own"
    )
    settings.add_argument("--like", help="id of the shipped target whose settings to take, e.g. ct")
    parser.add_argument("--max-minutes", type=float, help="time budget, resumed parts included")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument(
        "--device", default="auto", type=device_name, help="auto, cuda[:i], mps or cpu"
    )
    return parser
