"""What a model's training slices look like, for the check of its sources.

    python -m midiffusion.training.familiarity BUNDLE --data DIR [--config FILE]

puts it into the card of a bundle that has been trained (or renews it); `midiffusion train` writes
it by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import registry
from ..arguments import Arguments, UsageError
from ..card import ModelCard
from ..errors import InvalidData, MIDiffusionError
from ..familiarity import FEATURES, Familiar, Floats, Shapes, describe_slices, large_area
from .configuration import TrainingConfig
from .data import TrainingSlices

_AXES = 12
_NOISE = 0.1  # of the mean variance: what the axes of few slices can't be trusted with
_FOLDS = 5
# Brains without their skull are two thirds of a head, and their outline lies further from the law;
# headers and the training's pixel size err.
_AREA_BELOW, _AREA_ABOVE = 0.6, 1.5
_VOLUME_ABOVE = 2.0


def learn(slices: TrainingSlices, pixel_mm: float) -> Familiar:
    """The law of outline and structure in the training slices, and its limits.

    Limits of the distance are those of subjects that the law has not seen, by turns: a single
    slice, the 99th percentile; a volume, twice the largest typical slice of a subject.
    Raises InvalidData if too few slices show a head.
    """
    subjects = np.array(slices.subjects)
    names = np.unique(subjects)
    by_subject = [describe_slices(slices.images[subjects == name], pixel_mm) for name in names]
    by_subject = [shapes for shapes in by_subject if len(shapes.area_cm2)]
    if len(by_subject) < 2:
        raise InvalidData("Fewer than two training subjects show anything as large as a head.")
    folds = np.arange(len(by_subject)) % min(_FOLDS, len(by_subject))
    unseen: list[Floats] = []
    for fold in np.unique(folds):
        law = _law([s for s, f in zip(by_subject, folds, strict=True) if f != fold])
        unseen += [
            law.distance(s.turned(0)) for s, f in zip(by_subject, folds, strict=True) if f == fold
        ]
    large = [large_area(shapes.area_cm2) for shapes in by_subject]
    return replace(
        _law(by_subject),
        slice_limit=float(np.percentile(np.concatenate(unseen), 99)),
        volume_limit=_VOLUME_ABOVE * max(float(np.median(found)) for found in unseen),
        area_cm2=(_AREA_BELOW * min(large), _AREA_ABOVE * max(large)),
    )


def _law(by_subject: Sequence[Shapes]) -> Familiar:
    """Mean and main axes, without limits."""
    features = np.concatenate(
        [half for shapes in by_subject for half in (shapes.turned(0), shapes.mirrored())]
    )
    mean = features.mean(axis=0)
    covariance = np.cov(features.T)
    variances, axes = np.linalg.eigh(covariance)  # ascending
    rest = float(variances[:-_AXES].mean() + _NOISE * np.trace(covariance) / FEATURES)
    if not rest > 0:
        raise InvalidData("The training slices are all alike.")
    return Familiar(
        mean,
        axes.T[: -_AXES - 1 : -1],
        np.maximum(variances[: -_AXES - 1 : -1], 0),
        rest,
        slice_limit=np.inf,
        volume_limit=np.inf,
        area_cm2=(0.0, np.inf),
    )


def write(bundle: Path, config: TrainingConfig, data: Path) -> Familiar:
    """Learns from the training slices of a configuration and puts it into the bundle's card.

    Raises InvalidData as `learn` does; then the card is left as it was.
    """
    from .loop import load_all  # torch: not needed by those who only learn

    # Whole heads alone: with extracted ones among them half of the quarters and turned slices pass.
    found = learn(load_all(config, data, "train"), config.pixel_mm)
    path = bundle / registry.CARD
    card = replace(ModelCard.read(path), familiar=found.to_dict())
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(card.to_json(), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    parser = Arguments(
        prog="python -m midiffusion.training.familiarity",
        description="Put into a bundle's card what its training slices look like.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="model, by id or folder")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="training data")
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: the target's own")
    options = parser.parse_args(argv)
    entry = registry.find(options.bundle)
    config = (
        TrainingConfig.for_target(entry.id)
        if options.config is None
        else TrainingConfig.read(options.config)
    )
    found = write(entry.folder, config, options.data)
    print(
        f"{entry.id}: distance up to {found.volume_limit:.2f} (single slice "
        f"{found.slice_limit:.2f}), size {found.area_cm2[0]:.0f} to {found.area_cm2[1]:.0f} cm2."
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (MIDiffusionError, UsageError) as error:
        sys.exit(f"error: {error}")
