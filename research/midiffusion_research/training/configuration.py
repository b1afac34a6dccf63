"""Configurations of the published method: one JSON file per target beside this module."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from midiffusion.errors import InvalidParameter

CONFIGS = Path(__file__).with_name("configs")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run except images and time.

    Args:
        lmi: arguments of `LMISettings`.
        contrast: arguments of `RandomContrast`, which makes the image in the role of the source.
        network: arguments of `UNetConfig` but `cond_channels`.
        sigma_min, sigma_max: noise range of the sampler, model units. sigma_max is of the
            order of the largest distance between two training images (49.8 for TCGA-LGG FLAIR at
            128 x 128; median 27.9).
        sigma_mean, sigma_std: of ln(sigma) in training; the sampler's range ends 3.1 deviations
            below and 2.1 above: high noise, where the source decides, gets more weight than in EDM.
        batch: images per step.
        learning_rate: peak; 200 steps of warm-up, then a cosine to zero over the whole budget.
        ema: relative width of the power-function average of the weights (EDM2, arXiv 2312.02696).
        seed: of data order, augmentation, noise and initial weights.
    """

    lmi: dict[str, Any] = field(default_factory=dict)
    contrast: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    sigma_min: float = 0.01
    sigma_max: float = 40.0
    sigma_mean: float = 0.3
    sigma_std: float = 1.6
    batch: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.1
    seed: int = 0

    @classmethod
    def read(cls, path: Path | str) -> TrainingConfig:
        """Read a configuration file.

        Raises:
            InvalidParameter: missing file, broken JSON, or a field that is unknown.
        """
        values = _load(Path(path))
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InvalidParameter(f"The training configuration {path} has unknown {unknown}.")
        return cls(**values)

    @classmethod
    def for_target(cls, target: str) -> TrainingConfig:
        """The configuration of a target: ct, flair or t1.

        Raises:
            InvalidParameter: there is none; names those that there are.
        """
        path = CONFIGS / f"{target}.json"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.json")))
            raise InvalidParameter(
                f"There is no training configuration for '{target}'; use one of {known}."
            )
        return cls.read(path)


def _load(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidParameter(
            f"The training configuration {path} cannot be read: {error}."
        ) from error
    except ValueError as error:
        raise InvalidParameter(
            f"The training configuration {path} is not JSON: {error}."
        ) from error
    if not isinstance(values, dict):
        raise InvalidParameter(f"The training configuration {path} must be a JSON object.")
    return values
