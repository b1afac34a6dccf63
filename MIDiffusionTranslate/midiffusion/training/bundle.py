"""From a training state to a bundle that `load_model` reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..card import ModelCard
from ..conditioning import LMISettings
from ..model import save_bundle
from .configuration import TrainingConfig
from .loop import TrainingState


def export_bundle(
    folder: Path | str, target: str, config: TrainingConfig, state: TrainingState, device: str
) -> None:
    """Write card and averaged weights of a run as a bundle, atomically.

    The card's validation figures and times stay empty: `midiffusion benchmark table` measures them.

    Args:
        folder: the bundle; its files are replaced.
        target: id of the model.
        config, state: of the run.
        device: name of the device it ran on, for the card.
    """
    described = dict(config.card)
    training: dict[str, Any] = {
        "data": described.pop("training_data"),
        "licence": described.pop("training_licence"),
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
    card = ModelCard(
        id=target,
        **described,
        pixel_mm=config.pixel_mm,
        intensity=config.intensity,
        lmi=asdict(LMISettings(**config.lmi)),
        network=asdict(denoiser.network.config),
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        sigma_data=denoiser.sigma_data,
        training=training,
        validation={},
        seconds_per_slice={},
        weights_sha256="0" * 64,
        weights_bytes=1,
    )
    save_bundle(folder, card, denoiser)
