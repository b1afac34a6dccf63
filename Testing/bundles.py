"""The one tiny model of the tests: a real network that computes in no time, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "schema": 1,
    "id": "tiny",
    "title": "Tiny FLAIR",
    "target_modality": "MR FLAIR",
    "anatomy": "head",
    "field_of_view": "any, axial slices",
    "pixel_mm": 5.0,
    "orientation": "axial",
    "intensity": {"kind": "percentile"},
    "lmi": {"dilations": [1], "bandwidths": [0.1]},
    "network": {"channels": [8, 8], "embedding": 16},
    "sigma_min": 0.01,
    "sigma_max": 10.0,
    "sigma_data": 0.5,
    "default_steps": 4,
    "default_sampler": "dpmpp_2m",
    "training": {"data": "none: a test", "licence": "Apache-2.0"},
    "weights_licence": "Apache-2.0",
    "non_commercial": False,
    "intended_use": "tests",
    "limits": ["never trained"],
    "validation": {},
    "seconds_per_slice": {"CPU": 2.0},
    "weights_sha256": "0" * 64,
    "weights_bytes": 1,
}


def saveTiny(folder: Path, **changes: Any) -> Path:
    """Writes the bundle to `folder`, its card changed as said, and returns the folder.

    Every parameter is random, also those that a new network starts at zero: its result depends on
    the source, the noise and all layers, as that of a trained one.
    """
    import torch  # not at the top: tests that need no torch read the card alone
    from midiffusion.bundle import save_bundle
    from midiffusion.card import ModelCard
    from midiffusion.conditioning import LMISettings
    from midiffusion.denoiser import Denoiser
    from midiffusion.network import UNet, UNetConfig

    lmi = LMISettings(**{name: tuple(value) for name, value in TINY["lmi"].items()})
    network = {**TINY["network"], "cond_channels": lmi.channels}
    card = ModelCard.from_dict({**TINY, "network": network, **changes})
    torch.manual_seed(0)
    unet = UNet(UNetConfig(**network))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    save_bundle(folder, card, Denoiser(unet, card.sigma_data))
    return folder


def changeCard(folder: Path, **changes: Any) -> None:
    """Rewrites fields of a bundle's card."""
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
