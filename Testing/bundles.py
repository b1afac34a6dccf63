"""The one tiny model of the tests: a real network that computes in no time, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "schema": 2,
    "id": "tiny",
    "title": "Tiny FLAIR",
    "target_modality": "MR FLAIR",
    "contrast": "flair",
    "anatomy": "head",
    "field_of_view": "any",
    "pixel_mm": 5.0,
    "intensity": {"kind": "percentile"},
    "draws_samples": True,
    "sigma_data": 0.1,
    "training": {"data": "none: a test", "licence": "Apache-2.0"},
    "weights_licence": "Apache-2.0",
    "non_commercial": False,
    "intended_use": "tests",
    "limits": ["never trained"],
    "validation": {},
    "seconds_per_slice": {"CPU": 2.0},
    "weights_sha256": "0" * 64,
    "weights_bytes": 1,
    "backbone_sha256": "0" * 64,
}
_LMI = {"dilations": (1,), "bandwidths": (0.1,), "source": True}
_SHAPE = {"channels": (8, 8), "embedding": 16}


def tinyNetworks() -> tuple[Any, Any, Any]:
    """Backbone, denoiser and config with random weights.

    Every parameter is random, also those that a new network starts at zero: its result depends on
    the source, the noise and all layers, as that of a trained one.
    """
    import torch  # not at the top: tests that need no torch read the card alone
    from midiffusion.diffusion.backbone import OUTPUTS, Backbone
    from midiffusion.diffusion.conditioning import LMISettings
    from midiffusion.diffusion.denoiser import ResidualDenoiser
    from midiffusion.diffusion.network import UNet, UNetConfig
    from midiffusion.models.bundle import BackboneConfig

    lmi = LMISettings(**_LMI)
    shapes = (
        {**_SHAPE, "cond_channels": lmi.fixed_channels, "outputs": len(OUTPUTS)},
        {**_SHAPE, "cond_channels": lmi.channels + 1},
    )
    torch.manual_seed(0)
    backbone = Backbone(UNetConfig(**shapes[0]))
    denoiser = ResidualDenoiser(UNet(UNetConfig(**shapes[1])), TINY["sigma_data"])
    with torch.no_grad():
        for network in (backbone, denoiser):
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        backbone.network.outlet.bias.add_(0.5)  # a bright head
    config = BackboneConfig(lmi=dict(_LMI), backbone=shapes[0], denoiser=shapes[1])
    return backbone, denoiser, config


def saveTiny(folder: Path, **changes: Any) -> Path:
    """Writes the bundle to `folder` and its backbone beside it, the card changed as said; returns
    the folder."""
    from midiffusion.models.bundle import save_backbone, save_bundle
    from midiffusion.models.card import ModelCard

    backbone, denoiser, config = tinyNetworks()
    config = save_backbone(folder.parent / "backbone", config, backbone, denoiser)
    sha = {"backbone_sha256": config.weights_sha256}
    save_bundle(folder, ModelCard.from_dict({**TINY, **sha, **changes}))
    return folder


def changeCard(folder: Path, **changes: Any) -> None:
    """Rewrites fields of a bundle's card."""
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
