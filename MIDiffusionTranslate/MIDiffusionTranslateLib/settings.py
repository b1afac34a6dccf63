"""What the panel remembers: inputs in the scene, the computer's own choices in the settings.

Inputs live in a parameter node, so that a saved scene brings them back. The device and the folder
of further models belong to the computer, not to the scene, and live in the application's settings,
with the licences the user has accepted and the times measured on this computer.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Protocol

from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Minimum, WithinRange, parameterNodeWrapper

DEVICES = ("auto", "cpu", "cuda", "mps")


class Quality(enum.Enum):
    """How much is computed."""

    fast = "fast"
    standard = "standard"
    sample = "sample"

    def label(self) -> str:
        """The words of the choice in the panel."""
        return {
            "fast": _("Fast: one view"),
            "standard": _("Standard: mean of four views"),
            "sample": _("Sample: drawn by diffusion"),
        }[self.value]


class SourceKind(enum.Enum):
    """What the input volume is."""

    auto = "auto"
    mr = "mr"
    ct = "ct"

    def label(self) -> str:
        """The words of the choice in the panel."""
        return {"auto": _("Automatic"), "mr": _("MR"), "ct": _("CT")}[self.value]


@parameterNodeWrapper
class TranslateParameters:
    """The inputs of a translation.

    sourceVolume - the volume to translate
    outputVolume - the volume that receives the result; a new one if none is chosen
    errorMap - whether the error map is added to the scene
    model - id of the target model; empty until the panel has been opened in this scene
    quality - one view, four views, or samples
    steps, samples, seed - network evaluations, number and noise of samples
    sourceKind - MR, CT, or recognised by its values
    comparedVolume - the result to judge
    referenceVolume - the real volume to judge it by
    """

    sourceVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    comparedVolume: vtkMRMLScalarVolumeNode
    referenceVolume: vtkMRMLScalarVolumeNode
    errorMap: bool = True
    model: str = ""
    quality: Quality = Quality.standard
    steps: Annotated[int, WithinRange(2, 100)] = 8
    samples: Annotated[int, WithinRange(1, 16)] = 4
    seed: Annotated[int, Minimum(0)] = 0
    sourceKind: SourceKind = SourceKind.auto


def optionsOf(parameters: TranslateParameters) -> dict[str, Any]:
    """The fields of `TranslationOptions` that the parameters name."""
    options: dict[str, Any] = {"source": parameters.sourceKind.value}
    if parameters.quality is Quality.fast:
        options["views"] = 1
    elif parameters.quality is Quality.sample:
        options |= {
            "steps": parameters.steps,
            "samples": parameters.samples,
            "seed": parameters.seed,
        }
    return options


class SettingsStore(Protocol):
    """The part of qt.QSettings that is used."""

    def value(self, key: str, default: Any = None) -> Any: ...

    def setValue(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True)
class TrainingInputs:
    """Of a training run: folder of the images, id of the model, "mr" or "ct", time budget."""

    data: str = ""
    name: str = ""
    kind: str = "mr"
    minutes: int = 60


class ComputerSettings:
    """The computer's own choices, under `MIDiffusion/` in the application's settings."""

    def __init__(self, store: SettingsStore) -> None:
        self._store = store

    @property
    def device(self) -> str:
        device = str(self._store.value("MIDiffusion/Device", "auto"))
        return device if device in DEVICES else "auto"

    @device.setter
    def device(self, device: str) -> None:
        self._store.setValue("MIDiffusion/Device", device)

    @property
    def modelFolder(self) -> str:
        """Folder of further models; empty if there is none."""
        return str(self._store.value("MIDiffusion/ModelFolder", "") or "")

    @modelFolder.setter
    def modelFolder(self, folder: str) -> None:
        self._store.setValue("MIDiffusion/ModelFolder", folder)

    def hasAccepted(self, model: str, licence: str) -> bool:
        """Whether the user has accepted this licence of this model; a changed one asks again."""
        return bool(self._store.value(f"MIDiffusion/AcceptedLicences/{model}", "") == licence)

    def accept(self, model: str, licence: str) -> None:
        self._store.setValue(f"MIDiffusion/AcceptedLicences/{model}", licence)

    def seconds(self, what: str) -> float | None:
        """A duration measured on this computer (durations.py); None before the first run."""
        try:
            seconds = float(self._store.value(f"MIDiffusion/Seconds/{what}", "") or "")
        except (TypeError, ValueError):
            return None
        return seconds if 0.0 <= seconds < math.inf else None

    def setSeconds(self, what: str, seconds: float) -> None:
        self._store.setValue(f"MIDiffusion/Seconds/{what}", f"{seconds:.4g}")

    @property
    def training(self) -> TrainingInputs:
        """The inputs of the last training, so that it can be gone on with."""
        text = str(self._store.value("MIDiffusion/Training", "") or "{}")
        try:
            inputs = TrainingInputs(**json.loads(text))
        except (TypeError, ValueError):
            return TrainingInputs()
        return inputs if inputs.kind in ("mr", "ct") else TrainingInputs()

    @training.setter
    def training(self, inputs: TrainingInputs) -> None:
        if inputs != self.training:
            self._store.setValue("MIDiffusion/Training", json.dumps(asdict(inputs)))
