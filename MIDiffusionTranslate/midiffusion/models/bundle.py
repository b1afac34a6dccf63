"""Bundles, read and written: a target's own folder and the backbone that all targets share.

<target>/card.json              for people
<target>/weights.safetensors    the look; where a target has its own, "backbone.*", "denoiser.*"
backbone/config.json            for the machine: LMI maps, networks, what heads look like
backbone/weights.safetensors    "backbone.*" and "denoiser.*"
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..diffusion.backbone import Backbone
from ..diffusion.conditioning import LMISettings
from ..diffusion.denoiser import ResidualDenoiser
from ..diffusion.network import UNet, UNetConfig
from ..errors import CorruptModel, InvalidCard, InvalidParameter, OutOfMemory
from ..runtime.device import memory_state
from ..runtime.memory import is_shortage
from . import registry
from .card import ModelCard

CONFIG = "config.json"
BACKBONE = "backbone"  # folder of the shared weights
DENOISER = "denoiser.safetensors"
_SCHEMA = 1


@dataclass(frozen=True)
class BackboneConfig:
    """`backbone/config.json`.

    Args:
        lmi: arguments of `LMISettings`.
        backbone, denoiser: arguments of `UNetConfig`; a denoiser of None: no target draws samples.
        familiar: by plane, arguments of `pipeline.familiarity.Familiar`.
        training: how the weights came about: seed, images, data.
        licence: of the weights.
        weights_sha256, denoiser_sha256: of `weights.safetensors` and `denoiser.safetensors`.
    """

    lmi: dict[str, Any]
    backbone: dict[str, Any]
    denoiser: dict[str, Any] | None
    familiar: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    weights_sha256: str = ""
    denoiser_sha256: str = ""
    schema: int = _SCHEMA

    @classmethod
    def read(cls, folder: Path) -> BackboneConfig:
        """From a folder. Raises CorruptModel."""
        path = folder / CONFIG
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.get("schema") != _SCHEMA:
                raise CorruptModel(f"{path} is of another version: get the extension again.")
            return cls(**values)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CorruptModel(f"{path} can't be used ({error}): get the model again.") from error

    def lmi_settings(self) -> LMISettings:
        """Raises InvalidCard."""
        try:
            values = dict(self.lmi)
            if (estimator := values.pop("estimator", "kde")) != "kde":
                raise ValueError(f"unknown estimator {estimator!r}")
            settings = LMISettings(**values)
            settings.self_lmi()
            if settings.cross_channels:
                settings.cross_lmi()
        except (TypeError, ValueError, InvalidParameter) as failure:
            raise InvalidCard(f"The LMI settings can't be used: {_line(failure)}.") from failure
        return settings


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything of one target, on the CPU. look: [n] or None; denoiser: None without samples;
    error: weights of the expected error, see `pipeline.error_map`; own_backbone: whether the target
    has a backbone of its own."""

    card: ModelCard
    config: BackboneConfig
    backbone: Backbone
    denoiser: ResidualDenoiser | None
    look: Tensor | None
    error: tuple[float, ...] = (1.0, 0.0, 0.0)
    own_backbone: bool = False


def read_bundle(id_or_folder: str | Path, model_folder: str | Path | None = None) -> Bundle:
    """A model by its id or from its folder. Nothing is unpickled.

    Raises:
        UnknownModel, InvalidCard, OutOfMemory.
        CorruptModel: the weights are not those of the card, or don't fit the network.
    """
    entry = registry.find(id_or_folder, model_folder)
    registry.verify(entry)
    card = entry.card
    assert card is not None  # find refuses an entry without
    folder = find_backbone(card, entry.folder, model_folder)
    config = BackboneConfig.read(folder)
    try:
        shared = load_file(folder / registry.WEIGHTS)
        own = load_file(entry.weights)
        backbone = Backbone(UNetConfig(**config.backbone))
        _load(backbone, "backbone.", shared, own)
        denoiser = None
        if card.draws_samples and config.denoiser is not None:
            if not any(name.startswith("denoiser.") for name in own):
                shared |= load_file(_verified(folder / DENOISER, config.denoiser_sha256))
            denoiser = ResidualDenoiser(UNet(UNetConfig(**config.denoiser)), card.sigma_data)
            _load(denoiser, "denoiser.", shared, own)
    except (SafetensorError, RuntimeError, OSError, MemoryError, TypeError, KeyError) as failure:
        if is_shortage(failure):
            raise OutOfMemory(
                f"The model '{card.id}' doesn't fit into the memory of "
                f"{memory_state(torch.device('cpu'))}: close other programs."
            ) from failure
        raise CorruptModel(
            f"The weights of model '{card.id}' don't fit its networks ({_line(failure)}): get the "
            "model again."
        ) from failure
    look = own.get("look")
    error = tuple(own["error"].tolist()) if "error" in own else (1.0, 0.0, 0.0)
    own_backbone = any(name.startswith("backbone.") for name in own)
    look = None if look is None else look.float()
    return Bundle(card, config, backbone, denoiser, look, error, own_backbone)


def read_backbone(folder: Path) -> tuple[BackboneConfig, Backbone]:
    """The backbone of a folder, on the CPU. Raises CorruptModel."""
    config = BackboneConfig.read(folder)
    _verified(folder / registry.WEIGHTS, config.weights_sha256)
    try:
        backbone = Backbone(UNetConfig(**config.backbone))
        _load(backbone, "backbone.", load_file(folder / registry.WEIGHTS), {})
    except (SafetensorError, RuntimeError, OSError, TypeError, KeyError) as failure:
        raise CorruptModel(
            f"The weights in {folder} don't fit their config.json ({_line(failure)})."
        ) from failure
    return config, backbone


def find_backbone(card: ModelCard, folder: Path, model_folder: str | Path | None = None) -> Path:
    """The folder of the shared weights with the card's SHA-256: beside the bundle, in the model
    folder, or shipped. Raises CorruptModel where there is none or where its weights are damaged."""
    places = [folder.parent / BACKBONE, registry.shipped_folder() / BACKBONE]
    if model_folder is not None:
        places.insert(0, Path(model_folder).expanduser() / BACKBONE)
    for place in places:
        if not (place / CONFIG).is_file():
            continue
        config = BackboneConfig.read(place)
        if config.weights_sha256 != card.backbone_sha256:
            continue
        _verified(place / registry.WEIGHTS, config.weights_sha256)
        return place
    raise CorruptModel(
        f"The model '{card.id}' needs a backbone that is not here (SHA-256 "
        f"{card.backbone_sha256[:12]}...): put its folder '{BACKBONE}' beside the model's."
    )


def _verified(path: Path, sha256: str) -> Path:
    """The path. Raises CorruptModel unless the file has this digest."""
    if not path.is_file() or registry.sha256(path) != sha256:
        raise CorruptModel(f"The weights in {path.parent} are damaged: get the extension again.")
    return path


def lmi_settings(bundle: Bundle) -> LMISettings:
    """Which maps the networks are given. Raises InvalidCard, also where they don't fit."""
    settings = bundle.config.lmi_settings()
    takes = bundle.backbone.network.config.cond_channels
    if takes != settings.fixed_channels:
        raise InvalidCard(
            f"The backbone takes {takes} conditioning channels, its LMI settings make "
            f"{settings.fixed_channels}."
        )
    return settings


def save_backbone(
    folder: str | Path, config: BackboneConfig, backbone: nn.Module, denoiser: nn.Module | None
) -> BackboneConfig:
    """Write `config.json`, `weights.safetensors` and, where there is a denoiser, its own file, in
    bfloat16; returns the config as written."""
    weights = save(_stored("backbone.", backbone))
    config = replace(config, weights_sha256=hashlib.sha256(weights).hexdigest())
    files = {registry.WEIGHTS: weights}
    if denoiser is not None:
        files[DENOISER] = save(_stored("denoiser.", denoiser))
        config = replace(config, denoiser_sha256=hashlib.sha256(files[DENOISER]).hexdigest())
    text = json.dumps(asdict(config), indent=1, ensure_ascii=False) + "\n"
    _write(Path(folder), {**files, CONFIG: text.encode("utf-8")})
    return config


def save_bundle(
    folder: str | Path,
    card: ModelCard,
    look: Tensor | None = None,
    backbone: nn.Module | None = None,
    denoiser: nn.Module | None = None,
    error: Tensor | None = None,
) -> ModelCard:
    """Write a target's `card.json` and `weights.safetensors`; returns the card as written.

    backbone, denoiser: where the target has its own. Each file appears whole or not at all, and the
    card, without which there is no bundle, last. Other files in the folder are left alone.
    """
    tensors = {"look": look.float().contiguous()} if look is not None else {}
    if error is not None:
        tensors["error"] = error.float().contiguous()
    if backbone is not None:
        tensors |= _stored("backbone.", backbone)
    if denoiser is not None:
        tensors |= _stored("denoiser.", denoiser)
    weights = save(tensors)
    card = replace(
        card, weights_sha256=hashlib.sha256(weights).hexdigest(), weights_bytes=len(weights)
    )
    text = card.to_json().encode("utf-8")
    _write(Path(folder), {registry.WEIGHTS: weights, registry.CARD: text})
    return ModelCard.read(Path(folder) / registry.CARD)


def _stored(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Tensors in bfloat16, which halves the file; the networks still hold float32."""
    return {
        prefix + name: value.bfloat16().cpu().contiguous()
        for name, value in module.state_dict().items()
    }


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Each file whole or not at all; the last one, which describes the others, after them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f".{name}.part" for name in files}
    try:
        for name, content in files.items():
            parts[name].write_bytes(content)
        (folder / [*files][-1]).unlink(missing_ok=True)  # must not describe other weights
        for name, part in parts.items():
            os.replace(part, folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _load(
    module: nn.Module, prefix: str, shared: dict[str, Tensor], own: dict[str, Tensor]
) -> None:
    """A target's own tensors, else the shared ones."""
    tensors = own if any(name.startswith(prefix) for name in own) else shared
    part = {n.removeprefix(prefix): v.float() for n, v in tensors.items() if n.startswith(prefix)}
    module.load_state_dict(part, strict=True)


def _line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0].rstrip(".:")
