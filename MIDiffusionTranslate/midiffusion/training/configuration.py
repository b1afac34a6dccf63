"""The training configuration: one JSON file per target, the shipped ones beside this module."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidParameter
from .data import TCGA_PIXEL_MM, SliceSource

CONFIGS = Path(__file__).with_name("configs")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run except data folder, output folder and time.

    Args:
        card: the descriptive fields of the model card (title, modality, anatomy, licence, ...).
        sources: where slices come from, with equal weight per slice.
        intensity: the card's intensity map.
        pixel_mm: in-plane pixel size, millimetres.
        size: side of the training images, pixels.
        lmi: arguments of `LMISettings`.
        contrast: arguments of `RandomContrast`, which makes the image in the role of the source.
        extraction: share of images without scalp and skull.
        cut: share of images that end inside the head at one side.
        network: arguments of `UNetConfig` but `cond_channels`.
        sigma_min, sigma_max: noise range of the sampler, model units. sigma_max is of the
            order of the largest distance between two training images (49.8 for TCGA-LGG FLAIR at
            128 x 128; median 27.9).
        sigma_mean, sigma_std: of ln(sigma) in training; the sampler's range ends 3.1 deviations
            below and 2.1 above: high noise, where the source decides, gets more weight than in EDM.
        dropout: share of images trained without any condition.
        batch: images per step.
        learning_rate: peak; 200 steps of warm-up, then a cosine to zero over the whole budget.
        ema: relative width of the power-function average of the weights (EDM2, arXiv 2312.02696).
        precision: "bfloat16" (network under autocast) or "float32".
        max_minutes: time budget unless the command line gives one.
        seed: of data order, augmentation, noise and initial weights.
    """

    card: dict[str, Any]
    sources: tuple[SliceSource, ...]
    intensity: dict[str, Any]
    pixel_mm: float = TCGA_PIXEL_MM
    size: int = 128
    lmi: dict[str, Any] = field(default_factory=dict)
    contrast: dict[str, Any] = field(default_factory=dict)
    extraction: float = 0.0
    cut: float = 0.0
    network: dict[str, Any] = field(default_factory=dict)
    sigma_min: float = 0.01
    sigma_max: float = 40.0
    sigma_mean: float = 0.3
    sigma_std: float = 1.6
    dropout: float = 0.1
    batch: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.1
    precision: str = "bfloat16"
    max_minutes: float = 60.0
    seed: int = 0

    @classmethod
    def read(cls, path: Path | str) -> TrainingConfig:
        """Read a configuration file; its fields replace those of the one named by `extends`,
        a file of the same folder given without its ending.

        Raises:
            InvalidParameter: missing file, broken JSON, or a field that is unknown or missing.
        """
        values = _load(Path(path))
        if "extends" in values:
            values = _load(Path(path).with_name(f"{values.pop('extends')}.json")) | values
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted({"card", "sources", "intensity"} - set(values))
        if unknown or missing:
            raise InvalidParameter(
                f"The training configuration {path} lacks {missing} and has unknown {unknown}."
            )
        try:
            values["sources"] = tuple(SliceSource(**source) for source in values["sources"])
        except TypeError as error:
            raise InvalidParameter(
                f"The training configuration {path}: sources: {error}."
            ) from error
        return cls(**values)

    @classmethod
    def for_target(cls, target: str) -> TrainingConfig:
        """The shipped configuration of a target id.

        Raises:
            InvalidParameter: none is shipped; names those that are.
        """
        path = CONFIGS / f"{target}.json"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.json") if p.stem != "own"))
            raise InvalidParameter(
                f"No training configuration for target '{target}' is shipped (there are: {known}); "
                "give your own with --config."
            )
        return cls.read(path)

    @classmethod
    def for_own_images(cls, target: str) -> TrainingConfig:
        """For a plain folder of images: intensity map, LMI and network of the target's shipped
        configuration where there is one, but nothing of what that says of its data and licence."""
        own = cls.read(CONFIGS / "own.json")
        if (CONFIGS / f"{target}.json").is_file():
            shipped = cls.for_target(target)
            modality = shipped.card["target_modality"]
            own = replace(shipped, card=own.card)
        else:
            modality = target
        return replace(
            own, card=own.card | {"title": f"{modality}, own images", "target_modality": modality}
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; a checkpoint keeps them to refuse another configuration."""
        return json.loads(json.dumps(asdict(self)))


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
