"""From a training state to a bundle that `load_model` reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..bundle import save_bundle
from ..card import SCHEMA, ModelCard
from ..conditioning import LMISettings
from ..errors import InvalidParameter, MIDiffusionError
from ..network import UNetConfig
from .configuration import TrainingConfig
from .loop import TrainingState


def describe(
    target: str,
    config: TrainingConfig,
    training: dict[str, Any],
    sigma_data: float,
) -> ModelCard:
    """The card of a model trained so; size and hash of the weights are still to be filled in.

    Validation figures and times stay empty: they are for whoever measures them.

    Raises:
        InvalidParameter: the configuration or the id don't make a card.
    """
    values = dict(config.card)
    try:
        lmi = LMISettings(**config.lmi)
        network = UNetConfig(cond_channels=lmi.channels, **config.network)
        training = {
            "data": values.pop("training_data"),
            "licence": values.pop("training_licence"),
            **training,
        }
        values |= {
            "schema": SCHEMA,
            "id": target,
            "pixel_mm": config.pixel_mm,
            "intensity": config.intensity,
            "lmi": asdict(lmi),
            "network": asdict(network),
            "sigma_min": config.sigma_min,
            "sigma_max": config.sigma_max,
            "sigma_data": sigma_data,
            "training": training,
            "validation": {},
            "seconds_per_slice": {},
            "weights_sha256": "0" * 64,
            "weights_bytes": 1,
        }
        return ModelCard.from_dict(values)
    except (TypeError, ValueError, MIDiffusionError) as error:
        raise InvalidParameter(f"This training makes no valid model: {error}") from error
    except KeyError as error:
        raise InvalidParameter(f"The configuration's card lacks the field {error}.") from error


def export_bundle(
    folder: Path | str, target: str, config: TrainingConfig, state: TrainingState, device: str
) -> None:
    """Write card and averaged weights of a run as a bundle, atomically.

    Args:
        folder: the bundle; its card and weights are replaced.
        target: id of the model.
        config, state: of the run.
        device: name of the device it ran on, for the card.
    """
    training: dict[str, Any] = {
        "subjects": len(set(state.subjects)),
        "slices": len(state.subjects),
        "images_seen": state.step * config.batch,
        "minutes": round(state.seconds / 60.0, 1),
        "device": device,
        "torch": torch.__version__,
        "size": config.size,
        "seed": config.seed,
    }
    denoiser = state.average.average
    save_bundle(folder, describe(target, config, training, denoiser.sigma_data), denoiser)
