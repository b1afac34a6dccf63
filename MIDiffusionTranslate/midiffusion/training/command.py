"""`midiffusion train`: the backbone from label maps, or a target from its images."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..arguments import Arguments, UsageError, device_name
from ..errors import (
    Cancelled,
    DiskFull,
    InvalidData,
    InvalidParameter,
    MIDiffusionError,
    UnwritableTarget,
    disk_is_full,
)
from ..images.intensity import HounsfieldIntensity, PercentileIntensity
from ..models import registry
from ..models.bundle import (
    BACKBONE,
    CONFIG,
    BackboneConfig,
    Bundle,
    read_backbone,
    read_bundle,
    save_backbone,
    save_bundle,
)
from ..models.card import ModelCard
from ..models.names import CONTRASTS
from ..runtime.device import choose_device
from .backbone_training import BackboneTraining, BackboneTrainingConfig
from .data import image_size, load_target
from .error_fit import fit_error
from .export import own_card
from .familiarity_statistics import of_synthetic_heads
from .label_planes import PlaneSettings, read_label_maps
from .look_fit import draw, fit_look, nearest_contrast
from .loop import CHECKPOINT, TrainingRun
from .residual import RealImages, ResidualTraining, ResidualTrainingConfig
from .tissues import TissueTable

OnBundle = Callable[[Path, Path, str], object]


def main(
    argv: Sequence[str],
    on_bundle: OnBundle | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Train and leave a bundle in the output folder; returns the exit code.

    on_bundle: called with the bundle's folder, the data folder and the device whenever the bundle
    has been written. stop: asked after every step; true makes a checkpoint and ends the run.
    """
    args = _parser().parse_args(argv)
    if [bool(args.backbone), bool(args.denoiser), args.target is not None].count(True) != 1:
        raise UsageError("name one of --backbone, --denoiser ID=DIR and --target ID.")
    if args.max_minutes is not None and args.max_minutes < 0:
        raise InvalidParameter("--max-minutes must not be negative.")
    out = Path(args.out)
    try:
        if args.backbone:
            return _backbone(args, stop)
        return _denoiser(args, stop) if args.denoiser else _target(args, on_bundle, stop)
    except KeyboardInterrupt:
        resumable = (out / CHECKPOINT).is_file()
        left = "go on with --resume." if resumable else "there is no checkpoint yet."
        raise Cancelled(f"cancelled; {left}") from None
    except OSError as error:
        raise _unwritable(out, error) from error


def _backbone(args: argparse.Namespace, stop: Callable[[], bool]) -> int:
    """Regression of all contrasts on synthetic heads."""
    if args.heads is None:
        raise UsageError("--backbone needs --heads DIR, a folder of label maps.")
    out, start = Path(args.out), None
    if args.start is not None:
        start = _bundle(CONTRASTS[0], args.start).backbone
    if not 0.5 <= args.pixel_mm <= 4:
        raise InvalidParameter(f"--pixel-mm is {args.pixel_mm}: it must be 0.5 to 4.")
    config = BackboneTrainingConfig(
        images=args.images or BackboneTrainingConfig.images,
        geometry=PlaneSettings(size=image_size(args.pixel_mm), pixel_mm=args.pixel_mm),
    )
    if args.channels is not None:
        config = replace(config, network={**config.network, "channels": tuple(args.channels)})
    run = BackboneTraining(config, _folder(args.heads, "--heads"), start)
    run.to(run.processes.device(choose_device(args.device)))
    if args.resume:
        run.resume(out)

    familiar = of_synthetic_heads(run.maps, run.tissues, config.geometry)

    def save() -> None:
        model = run.average.average
        described = BackboneConfig(
            lmi=asdict(config.lmi),
            backbone=asdict(model.network.config),  # type: ignore[union-attr, arg-type]
            denoiser=None,
            familiar=familiar,
            licence=args.licence,
            training={
                "seed": config.seed,
                "images": run.images,
                "label_maps": len(run.maps),
                "pixel_mm": args.pixel_mm,
            },
        )
        save_backbone(out, described, model, None)

    run.run(out, stop, save, _seconds(args))
    if run.processes.first:
        print(f"{out}: backbone, {run.images} images in {run.seconds / 60:.1f} minutes.")
    return 0


def _target(args: argparse.Namespace, on_bundle: OnBundle | None, stop: Callable[[], bool]) -> int:
    """The look of a target in seconds; then, in the time that is left, its denoiser or mean."""
    out, data = Path(args.out), _folder(args.data, "--data")
    like = args.like or "t1"
    if like not in CONTRASTS:
        raise InvalidParameter(f"--like is {like!r}: use one of {', '.join(CONTRASTS)}.")
    start = _bundle(like, args.start)
    is_ct = like == "ct"
    if args.heads is not None:  # what can't be read fails before the first step
        read_label_maps(_folder(args.heads, "--heads"), TissueTable.read())
    intensity = HounsfieldIntensity() if is_ct else PercentileIntensity()
    images = load_target(data, start.card.pixel_mm, intensity.to_dict())
    lmi = start.config.lmi_settings()
    look, contrast = None, "ct"
    if not is_ct:
        outputs = draw(start.backbone.eval(), images, lmi)
        contrast = args.like or nearest_contrast(images, outputs)
        look = None if args.no_look else fit_look(images, outputs, contrast)
    card = own_card(
        args.target, contrast, start.card.pixel_mm, start.card.backbone_sha256, args.card
    )
    card = replace(card, training={**card.training, "slices": len(images), "seed": 0})
    pixel_mm = start.card.pixel_mm
    run: TrainingRun | None = None
    if is_ct and args.max_minutes != 0:
        run = _mean_run(args, start, images)
    elif not is_ct and args.max_minutes:
        run = _denoiser_run(start, RealImages(images, contrast, look))

    def save() -> None:
        own: dict[str, Any] = {}
        made: ModelCard = card
        backbone = run.average.average if run is not None and is_ct else start.backbone
        error = fit_error(backbone, images, contrast, look, lmi, pixel_mm)  # type: ignore[arg-type]
        if run is not None:
            made = replace(card, training={**card.training, "images_seen": run.images})
            own = {"backbone" if is_ct else "denoiser": run.average.average}
            if not is_ct:
                made = replace(made, draws_samples=True, sigma_data=_sigma(run))
        save_bundle(out, made, look=look, error=error, **own)
        if on_bundle is not None:
            on_bundle(out, data, "cpu")

    if run is None:
        save()
        print(f"{out}: model '{args.target}', the look of {len(images)} slices ({contrast}).")
        return 0
    if args.resume:
        run.resume(out)
    run.run(out, stop, save, _seconds(args))
    if run.processes.first:
        print(f"{out}: model '{args.target}', {run.step} steps in {run.seconds / 60:.1f} minutes.")
    return 0


def _denoiser(args: argparse.Namespace, stop: Callable[[], bool]) -> int:
    """The denoiser that MR targets share, beside their backbone."""
    out, targets = Path(args.out), []
    for text in args.denoiser:
        name, _, folder = text.partition("=")
        start = _bundle(name, args.start)
        if start.card.contrast == "ct":
            raise InvalidParameter(f"--denoiser {name}: only MR targets have a denoiser.")
        data = _folder(folder or None, f"--denoiser {name}=")
        images = load_target(data, start.card.pixel_mm, PercentileIntensity().to_dict())
        targets.append(RealImages(images, start.card.contrast, start.look))
    config = ResidualTrainingConfig(average=0.1, lmi=start.config.lmi_settings())
    if args.images is not None:
        config = replace(config, images=args.images)
    run = ResidualTraining(config, start.backbone, targets, start.denoiser)
    if args.resume:
        run.resume(out)

    def save() -> None:
        denoiser = run.average.average
        described = replace(
            start.config,
            denoiser=asdict(denoiser.denoise.network.config),  # type: ignore[union-attr, arg-type]
            training={**start.config.training, "denoiser_images": run.images},
        )
        save_backbone(out, described, start.backbone, denoiser)

    run.run(out, stop, save, _seconds(args))
    if run.processes.first:
        print(f"{out}: denoiser, {run.images} images in {run.seconds / 60:.1f} minutes.")
    return 0


def _mean_run(args: argparse.Namespace, start: Bundle, images: Tensor) -> TrainingRun:
    """CT: the mean itself is fine-tuned, on real images and, where given, synthetic heads."""
    lmi = start.config.lmi_settings()
    config = BackboneTrainingConfig(learning_rate=4e-4, average=0.1, lmi=lmi)
    if args.images is not None:
        config = replace(config, images=args.images)
    heads = None if args.heads is None else Path(args.heads)
    if heads is None:
        config = replace(config, real=config.batch)
    return BackboneTraining(config, heads, start.backbone, images, "ct")


def _denoiser_run(start: Bundle, target: RealImages) -> TrainingRun:
    """MR: a denoiser of the residual, from the shared one where there is one."""
    config = ResidualTrainingConfig(
        learning_rate=5e-4, average=0.1, lmi=start.config.lmi_settings()
    )
    return ResidualTraining(config, start.backbone, [target], start.denoiser)


def _sigma(run: TrainingRun) -> float:
    assert isinstance(run, ResidualTraining)
    return run.settings.sigma_data


def _bundle(target: str, folder: str | None) -> Bundle:
    """A bundle by id; of a new backbone in `folder` that has no bundle yet, one with its card."""
    place = None if folder is None else Path(folder).expanduser() / BACKBONE
    if place is None or not (place / CONFIG).is_file():
        return read_bundle(target, folder)
    named = next((e.card for e in registry.available(folder) if e.id == target), None)
    config, backbone = read_backbone(place)
    if named is not None and named.backbone_sha256 == config.weights_sha256:
        return read_bundle(target, folder)
    pixel_mm = float(config.training.get("pixel_mm", PlaneSettings.pixel_mm))
    card = own_card(target, target, pixel_mm, config.weights_sha256, None)
    return Bundle(card, config, backbone, None, None)


def _seconds(args: argparse.Namespace) -> float:
    return float("inf") if args.max_minutes is None else 60.0 * float(args.max_minutes)


def _folder(path: str | None, option: str) -> Path:
    if path is None:
        raise UsageError(f"{option} DIR is missing.")
    if not Path(path).is_dir():
        raise InvalidData(f"The folder {path} ({option}) does not exist.")
    return Path(path)


def _unwritable(out: Path, error: OSError) -> MIDiffusionError:
    if disk_is_full(error):
        return DiskFull(f"The disk of {out} is full: free some space and go on with --resume.")
    return UnwritableTarget(f"{out} can't be written ({error}); name another folder with --out.")


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion train",
        description="Train the backbone on label maps, or a target model on its images.",
    )
    add = parser.add_argument
    add("--backbone", action="store_true", help="train the backbone that all targets share")
    add("--denoiser", nargs="+", metavar="ID=DIR", help="train the denoiser that MR targets share")
    add("--target", metavar="ID", help="id of the target model to make, e.g. flair")
    add("--data", metavar="DIR", help="images of the target: a folder of volumes or of slices")
    add("--heads", metavar="DIR", help="folder of whole-head label maps")
    add("--start", metavar="DIR", help="folder of models to start from; default: those that ship")
    add("--out", required=True, metavar="DIR", help="folder of the bundle, checkpoint and log.csv")
    add("--like", metavar="ID", help="contrast of the target; default: the nearest MR contrast")
    add("--no-look", action="store_true", help="keep the nominal contrast of the target")
    add("--licence", default="", help="licence of a backbone's weights")
    add("--card", type=Path, metavar="FILE", help="JSON with fields of the model card")
    add("--images", type=int, metavar="N", help="length of the run")
    add("--max-minutes", type=float, help="time budget; 0 learns the look alone")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--pixel-mm", type=float, default=PlaneSettings.pixel_mm, help="pixel size of a backbone")
    add("--channels", type=int, nargs="+", metavar="N", help="widths of a backbone's four levels")
    add("--device", default="auto", type=device_name, help="of a backbone; targets use the CPU")
    return parser
