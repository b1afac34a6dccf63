"""Model bundles for the panel's tests: real weights of a network that computes in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CARD: dict[str, Any] = {
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
    "training": {"data": "none", "licence": "Apache-2.0"},
    "weights_licence": "Apache-2.0",
    "non_commercial": False,
    "intended_use": "tests of the panel",
    "limits": ["never trained"],
    "validation": {},
    "seconds_per_slice": {"CPU": 2.0},
    "weights_sha256": "0" * 64,
    "weights_bytes": 1,
}


def saveTiny(folder: Path, **changes: Any) -> Path:
    """A bundle with random weights in `folder`, its card changed as said."""
    import torch
    from midiffusion.card import ModelCard
    from midiffusion.conditioning import LMISettings
    from midiffusion.denoiser import Denoiser
    from midiffusion.model import save_bundle
    from midiffusion.network import UNet, UNetConfig

    lmi = LMISettings(dilations=(1,), bandwidths=(0.1,))
    network = {**CARD["network"], "cond_channels": lmi.channels}
    torch.manual_seed(0)
    card = ModelCard.from_dict({**CARD, "network": network, **changes})
    save_bundle(folder, card, Denoiser(UNet(UNetConfig(**network)), card.sigma_data))
    return folder


def changeCard(folder: Path, **changes: Any) -> None:
    """Rewrites fields of a bundle's card."""
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
