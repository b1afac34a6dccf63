"""The method in one place: a translation is a loop over named steps.

    check        can the volume be computed with?
    scale        any modality to model units
    slice        slices in the plane in which the source was acquired, or in three planes
    familiarity  warn where the source does not look like a head in its header's orientation
    views        renderings of the source whose results are averaged
    look         how real images of the target look
    mean         the backbone: the mean of what is likely, for each view
    sample       diffusion of what the mean leaves open (from two evaluations on)
    detail       edges from the source at its own resolution
    error_map    the expected absolute error, from the spread of the views
    units        Hounsfield units, or a nominal scale for MR

docs/pipeline.md has a section for each step and the table that shows what it is worth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InvalidParameter, OutOfMemory
from ..images.volume import Volume
from ..runtime.device import choose_device, describe, memory_state
from ..runtime.memory import is_shortage
from ..runtime.precision import network_dtype, reproducible
from ..runtime.progress import Progress, Reporter
from .case import Case, StepRecord
from .check import Check
from .detail import Detail
from .error_map import ErrorMap
from .familiarity import Familiarity
from .look import Look
from .mean import Mean
from .options import TranslationOptions
from .sample import Sample
from .scale import Scale
from .slice import Slice
from .step import Step
from .target import TargetModel
from .units import Units
from .views import Views

STEPS: tuple[Step, ...] = (
    Check(),
    Scale(),
    Slice(),
    Familiarity(),
    Views(),
    Look(),
    Mean(),
    Sample(),
    Detail(),
    ErrorMap(),
    Units(),
)
OPTIONAL = ("familiarity", "look", "detail")


@dataclass(frozen=True)
class Translation:
    """A translated volume on the source's grid.

    volume: float32; HU for CT, and for MR with the 99.5th percentile inside the head nominally at
    1000. error_map: expected absolute error in the same units, None for one view. deviation:
    standard deviation of the samples, None for fewer than two. provenance: JSON types.
    """

    volume: Volume
    error_map: Volume | None
    deviation: Volume | None
    provenance: dict[str, Any]

    def attributes(self, source: str) -> dict[str, str]:
        """The provenance as texts for file headers and node attributes, with the source's name.
        "synthetic" comes first: a NIfTI file keeps no more than the first 79 characters."""
        # A name in another encoding than UTF-8 loses the letters that can't be stored.
        source = source.encode("utf-8", "replace").decode("utf-8")
        named = {"synthetic": 1, "source": source, **self.provenance}
        return {
            f"MIDiffusion.{key}": json.dumps(value) if isinstance(value, list) else str(value)
            for key, value in named.items()
            if value is not None
        }


def translate(
    model: TargetModel,
    volume: Volume,
    options: TranslationOptions,
    on_progress: Callable[[Progress], None] | None = None,
    drawn: dict[Any, Any] | None = None,
) -> Translation:
    """Show `volume` as the model's target modality would (synthetic: not for diagnosis).

    on_progress is called after every batch of slices; an exception in it ends the translation.
    drawn: one empty dict for the translations of one volume to several targets with one backbone,
    which is then evaluated once.

    Raises:
        InvalidVolume, InvalidParameter, DeviceUnavailable, OutOfMemory.
    """
    _check_names(options)
    device = choose_device(options.device)
    started = time.monotonic()
    case = Case(volume, model, options, device, Reporter(device, on_progress), drawn)
    try:
        with reproducible():
            for step in STEPS:
                if step.name not in options.without and step.applies(case):
                    parameters = asdict(step)  # type: ignore[call-overload]
                    case.records.append(StepRecord(step.name, parameters, step.run(case)))
                for name in step.releases:
                    setattr(case, name, None)
    except (RuntimeError, MemoryError) as failure:
        if not is_shortage(failure):
            raise
        raise OutOfMemory(
            f"The volume does not fit into the memory of {memory_state(device)}: crop the volume "
            "or choose another device."
        ) from failure
    return _translation(case, round(time.monotonic() - started, 2))


def _check_names(options: TranslationOptions) -> None:
    for name in options.without:
        if name not in OPTIONAL:
            raise InvalidParameter(
                f"The step {name!r} can't be left out: use one of {', '.join(OPTIONAL)}."
            )


def _translation(case: Case, seconds: float) -> Translation:
    def volume(data: np.ndarray | None) -> Volume | None:
        return (
            None if data is None else case.source.with_data(data, case.model.card.target_modality)
        )

    result = volume(case.result)
    assert result is not None  # the step `mean` always runs
    card, options = case.model.card, case.options
    provenance: dict[str, Any] = {
        "model": card.id,
        "weightsSHA256": card.weights_sha256,
        "backboneSHA256": card.backbone_sha256,
        "version": __version__,
        **{k: v for k, v in asdict(options).items() if k != "source"},
        "sourceKind": options.source,
        "without": list(options.without),
        "device": describe(case.device),
        "precision": str(network_dtype(case.device)).removeprefix("torch."),
        "seconds": seconds,
        "sourceTakenAs": "CT" if case.source_is_ct else "MR",
        "warning": case.warning,
        "synthetic": 1,
        "pipeline": [asdict(record) for record in case.records],
    }
    return Translation(result, volume(case.spread), volume(case.deviation), provenance)
