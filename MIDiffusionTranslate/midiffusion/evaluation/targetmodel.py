"""A model of the target for the methods that translate by one: the bundle there is, or a new one.

Where no bundle of the target's anatomy exists (pelvis, PD), one is trained as a user would train it
on images of their own: by the training loop, on the targets of the training subjects alone, within
the budget that every method of the table has.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import registry
from ..errors import InvalidData, UnwritableTarget
from ..registry import ModelEntry
from .cells import data_digest, digest
from .codeversion import code_version
from .datasets import Dataset, Subject
from .report import say


def existing_model(
    data: Dataset, target: str, chosen: str | None, folder: Path | None
) -> ModelEntry | None:
    """The bundle `chosen` (by id or folder), else the one that suits this target of the data set,
    if there is one, in `folder` or shipped. Raises UnknownModel for a chosen one that isn't there.
    """
    if chosen:
        return registry.find(chosen, folder)
    wanted = data.bundles.get(target)
    known = {entry.id: entry for entry in registry.available(folder)}
    return registry.find(wanted, folder) if wanted in known else None


def trained_model(
    data: Dataset,
    target: str,
    subjects: Sequence[Subject],
    *,
    seconds: float,
    size: int,
    seed: int,
    device: str,
    folder: Path,
) -> ModelEntry:
    """The bundle in `folder` that was trained so, if there is one, else trains it.

    An interrupted training is taken up where it was last saved. subjects: for training. size: side
    in pixels of the slices. Raises InvalidData for fewer than two subjects.
    """
    from ..training.checkpoint import NAME
    from ..training.configuration import TrainingConfig
    from ..training.data import SliceSource
    from ..training.export import export_bundle
    from ..training.loop import train

    if len(subjects) < 2:
        raise InvalidData(
            f"There is no model of {target.upper()} for {data.name}, and {len(subjects)} training "
            "subject(s) are too few to train one: at least 2 are needed; name one with --model."
        )
    small = [subject.at(size) for subject in subjects]
    config = TrainingConfig.for_own_images(target)
    config = replace(
        config,
        sources=(SliceSource("volumes"),),
        pixel_mm=float(np.median([subject.source.spacing_mm[0] for subject in small])),
        size=size,
        seed=seed,
        card=config.card
        | {
            "title": f"{target.upper()}, trained on {data.name}",
            "training_data": f"Targets of the training subjects of {data.name}",
            "training_licence": "That of the collection, see docs/datasets.md",
            "weights_licence": "That of the collection, see docs/datasets.md",
        },
    )
    model = re.sub(r"[^a-z0-9.-]", "-", f"{data.name}-{target}")
    key = digest(
        [
            config.to_dict(),
            seconds,
            device,
            data_digest(small),
            code_version("midiffusion.training.loop"),
        ]
    )
    bundle = folder / f"{model}_{key}"
    if (bundle / registry.CARD).is_file():
        return registry.find(bundle)
    part = folder / f"{bundle.name}.part"
    images = part / "images"  # of people: gone before the bundle is there, whatever happened before
    try:
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir(parents=True)
        try:
            _write_targets(images, small, config.intensity, target)
            say(f"{model}: no bundle of this target; training one, {seconds:g} s", last=True)
            state = train(
                config,
                images,
                part,
                device=device,
                max_minutes=seconds / 60,
                resume=(part / NAME).is_file(),
            )
        finally:
            shutil.rmtree(images)
        export_bundle(part, model, config, state, device)
        part.rename(bundle)
    except OSError as error:
        raise UnwritableTarget(f"{bundle} can't be written: {error}") from error
    return registry.find(bundle)


def _write_targets(
    folder: Path, subjects: Sequence[Subject], intensity: dict[str, object], target: str
) -> None:
    """Each subject's target as a volume in the units that the intensity map expects."""
    from ..intensity import intensity_map
    from ..io import write_volume
    from ..volume import Volume

    units = intensity_map(intensity)
    for subject in subjects:
        data = np.asarray(units.inverse(subject.target), dtype=np.float32)
        volume = Volume(data, subject.source.ijkToRAS, target.upper())
        write_volume(folder / f"{subject.id}.mha", volume)
