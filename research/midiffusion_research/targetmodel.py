"""A model of the target for the methods that translate by one: the bundle there is, or a new one.

Where no bundle of the target's anatomy exists (pelvis), one is trained as a user would train it on
images of their own: by `midiffusion train`, on the targets of the training subjects alone, within
the budget that every method of the table has.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from midiffusion.errors import InvalidData, UnwritableTarget
from midiffusion.models import registry
from midiffusion.models.registry import ModelEntry

from .cells import data_digest, digest
from .codeversion import code_version
from .datasets import Dataset, Subject
from .report import say

MODEL_PIXEL_MM, MODEL_PIXELS = 190 / 114, 128
HEAD_MM = 300.0  # extent of a head with air around it, in the plane


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
    device: str,
    start: Path | None,
    folder: Path,
) -> ModelEntry:
    """The bundle in `folder` that was trained so, if there is one, else trains it.

    An interrupted training is taken up where it was last saved. subjects: for training. size: side
    in pixels of the slices. start: folder of the models to start from, None for those that ship.
    Raises InvalidData for fewer than two subjects.
    """
    from midiffusion.training import command
    from midiffusion.training.loop import CHECKPOINT

    if len(subjects) < 2:
        raise InvalidData(
            f"There is no model of {target.upper()} for {data.name}, and {len(subjects)} training "
            "subject(s) are too few to train one: at least 2 are needed; name one with --model."
        )
    small = [subject.at(size) for subject in subjects]
    model = re.sub(r"[^a-z0-9.-]", "-", f"{data.name}-{target}")
    key = digest([target, seconds, device, data_digest(small), code_version(command.__name__)])
    bundle = folder / f"{model}_{key}"
    if (bundle / registry.CARD).is_file():
        return registry.find(bundle)
    part = folder / f"{bundle.name}.part"
    images = part / "images"  # of people: gone before the bundle is there, whatever happened before
    words = ["--target", model, "--data", images, "--out", part, "--card", part / "described.json"]
    words += ["--max-minutes", seconds / 60, "--device", device]
    words += [] if start is None else ["--start", start]
    words += ["--like", "ct"] if target == "ct" else []  # of MR the nearest contrast is found
    words += ["--resume"] if (part / CHECKPOINT).is_file() else []
    try:
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir(parents=True)
        zoom = _zoom(small)
        described = _described(data, target) | {"pixel_mm": zoom * MODEL_PIXEL_MM}
        (part / "described.json").write_text(json.dumps(described))
        try:
            _write_targets(images, small, target, zoom)
            say(f"{model}: no bundle of this target; training one, {seconds:g} s", last=True)
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for the table
                command.main([str(word) for word in words])
        finally:
            shutil.rmtree(images)
        part.rename(bundle)
    except OSError as error:
        raise UnwritableTarget(f"{bundle} can't be written: {error}") from error
    return registry.find(bundle)


def _described(data: Dataset, target: str) -> dict[str, object]:
    """What the card says of the training."""
    licence = "That of the collection, see research/docs/datasets.md"
    return {
        "title": f"{target.upper()}, trained on {data.name}",
        "training": {"data": f"Targets of the training subjects of {data.name}"},
        "weights_licence": licence,
    }


def _zoom(subjects: Sequence[Subject]) -> float:
    """How much larger than a head's the pixels of the model must be: 1 for heads, else so that the
    whole field of view is seen."""
    extents = [max(s.source.spacing_mm[:2]) * max(s.target.shape[1:]) for s in subjects]
    largest = max(extents)
    return 1.0 if largest <= HEAD_MM else largest / (MODEL_PIXEL_MM * MODEL_PIXELS)


def _write_targets(folder: Path, subjects: Sequence[Subject], target: str, zoom: float) -> None:
    """Each subject's target as a volume in HU (CT) or in model units (MR), by 1 / zoom smaller in
    its plane than in truth: training has pixels of a head's size."""
    from midiffusion.images.intensity import HounsfieldIntensity, PercentileIntensity
    from midiffusion.images.io import write_volume
    from midiffusion.images.volume import Volume

    units = HounsfieldIntensity() if target == "ct" else PercentileIntensity()
    for subject in subjects:
        data = np.asarray(units.inverse(subject.target), dtype=np.float32)
        matrix = subject.source.ijkToRAS @ np.diag([1 / zoom, 1 / zoom, 1.0, 1.0])
        volume = Volume(data, matrix, target.upper())
        write_volume(folder / f"{subject.id}.mha", volume)
