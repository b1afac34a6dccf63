"""A model's bundle: `card.json` and `weights.safetensors`, read and written."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from . import registry
from .card import ModelCard
from .conditioning import LMISettings
from .denoiser import Denoiser
from .device import memory_state
from .errors import CorruptModel, InvalidCard, InvalidParameter, OutOfMemory
from .memory import is_shortage
from .network import UNet, UNetConfig


def read_bundle(
    id_or_folder: str | Path, model_folder: str | Path | None = None
) -> tuple[ModelCard, Denoiser]:
    """The card and the denoiser of a model, by its id or from its folder; on the CPU.

    Raises UnknownModel, InvalidCard, CorruptModel (the weights are not the card's, or don't fit
    the network it describes) and OutOfMemory. Nothing is unpickled.
    """
    entry = registry.find(id_or_folder, model_folder)
    registry.verify(entry)
    assert entry.card is not None  # find refuses an entry without
    denoiser = Denoiser(_network(entry.card), entry.card.sigma_data)
    try:
        denoiser.load_state_dict(load_file(entry.weights), strict=True)
    except (SafetensorError, RuntimeError, OSError, MemoryError) as failure:
        _spare_shortage(entry.card, failure)
        raise CorruptModel(
            f"The weights of model '{entry.id}' are not those of the network its card describes "
            f"({_first_line(failure)}). Get the model again."
        ) from failure
    return entry.card, denoiser


def save_bundle(folder: str | Path, card: ModelCard, denoiser: Denoiser) -> ModelCard:
    """Writes card.json and weights.safetensors to folder; returns the card as written, with the
    size and the SHA-256 of the weights and the denoiser's sigma_data filled in.

    Weights are stored in half precision. Each file appears whole or not at all, and the card,
    without which there is no bundle, last. Other files in the folder are left alone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights_part, card_part = (
        folder / f".{name}.part" for name in (registry.WEIGHTS, registry.CARD)
    )
    # Half precision halves the bundle; the network still computes in float32.
    state = {key: value.half().cpu().contiguous() for key, value in denoiser.state_dict().items()}
    weights = save(state)
    try:
        weights_part.write_bytes(weights)
        card = replace(
            card,
            sigma_data=float(denoiser.sigma_data),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            weights_bytes=len(weights),
        )
        card_part.write_text(card.to_json(), encoding="utf-8")
        (folder / registry.CARD).unlink(missing_ok=True)  # must not describe other weights
        os.replace(weights_part, folder / registry.WEIGHTS)
        os.replace(card_part, folder / registry.CARD)
    finally:
        weights_part.unlink(missing_ok=True)
        card_part.unlink(missing_ok=True)
    return ModelCard.read(folder / registry.CARD)


def lmi_settings(card: ModelCard) -> LMISettings:
    """Which LMI maps the card's model is given. Raises InvalidCard."""
    try:
        settings = LMISettings(**card.lmi)
        settings.self_lmi()
        if settings.cross_channels:
            settings.cross_lmi()
    except (TypeError, ValueError, InvalidParameter) as failure:
        raise _wrong("lmi", card, failure) from failure
    return settings


def network_config(card: ModelCard) -> UNetConfig:
    """The network the card's weights are for. Raises InvalidCard, also where it doesn't fit the
    LMI maps."""
    try:
        config = UNetConfig(**card.network)
    except (TypeError, ValueError) as failure:
        raise _wrong("network", card, failure) from failure
    channels = lmi_settings(card).channels
    if config.cond_channels != channels:
        raise InvalidCard(
            f"The model card of '{card.id}' disagrees with itself: field 'lmi' makes {channels} "
            f"maps, field 'network' takes {config.cond_channels}."
        )
    return config


def _network(card: ModelCard) -> UNet:
    try:
        return UNet(network_config(card))
    except (TypeError, ValueError, RuntimeError, IndexError, MemoryError) as failure:
        _spare_shortage(card, failure)
        raise _wrong("network", card, failure) from failure


def _spare_shortage(card: ModelCard, failure: Exception) -> None:
    """Raises OutOfMemory where that is what `failure` says: the model itself is in order."""
    if is_shortage(failure):
        raise OutOfMemory(
            f"The model '{card.id}' doesn't fit into the memory of "
            f"{memory_state(torch.device('cpu'))}: close other programs."
        ) from failure


def _wrong(field: str, card: ModelCard, failure: Exception) -> InvalidCard:
    return InvalidCard(
        f"Field '{field}' of the model card of '{card.id}' can't be used: {_first_line(failure)}."
    )


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0].rstrip(".:")
