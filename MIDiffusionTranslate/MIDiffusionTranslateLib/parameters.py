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


class Sampler(enum.Enum):
    """The choices of the sampler; `default` is the one the model's card names."""

    default = "default"
    euler_maruyama = "euler_maruyama"
    predictor_corrector = "predictor_corrector"
    heun = "heun"
    dpmpp_2m = "dpmpp_2m"

    def label(self) -> str:
        """The words of the choice in the panel."""
        return {
            "default": _("The model's default"),
            "euler_maruyama": _("Euler-Maruyama (stochastic)"),
            "predictor_corrector": _("Predictor-corrector (stochastic)"),
            "heun": _("Heun (2nd order)"),
            "dpmpp_2m": _("DPM-Solver++ 2M"),
        }[self.value]


@parameterNodeWrapper
class TranslateParameters:
    """The inputs of a translation.

    sourceVolume - the volume to translate
    outputVolume - the volume that receives the result; a new one if none is chosen
    model - id of the target model; empty until the panel has been opened in this scene
    steps - network evaluations per slice and sample
    seed - of the noise
    samples - how many to average; two or more also give a volume of the standard deviation
    sampler - method of integration
    comparedVolume - the result to judge
    referenceVolume - the real volume to judge it by
    """

    sourceVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    comparedVolume: vtkMRMLScalarVolumeNode
    referenceVolume: vtkMRMLScalarVolumeNode
    model: str = ""
    steps: Annotated[int, WithinRange(1, 100)] = 4
    seed: Annotated[int, Minimum(0)] = 0
    samples: Annotated[int, WithinRange(1, 16)] = 1
    sampler: Sampler = Sampler.default


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
