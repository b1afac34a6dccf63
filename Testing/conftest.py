"""Fixtures shared by all tiers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before anything imports torch or Qt: small tests lose more to threads than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

ROOT = Path(__file__).resolve().parents[1]

CARD: dict[str, Any] = {
    "schema": 1,
    "id": "toy",
    "title": "Toy target",
    "target_modality": "MR FLAIR",
    "anatomy": "head",
    "field_of_view": "whole head, 32 x 32 pixels",
    "pixel_mm": 6.0,
    "orientation": "axial",
    "intensity": {"kind": "percentile"},
    "lmi": {"estimator": "kde"},
    "network": {},
    "sigma_min": 0.01,
    "sigma_max": 40.0,
    "sigma_data": 0.5,
    "default_steps": 9,
    "default_sampler": "heun",
    "training": {"data": "none: a test", "licence": "Apache-2.0"},
    "weights_licence": "Apache-2.0",
    "non_commercial": False,
    "intended_use": "tests of the registry",
    "limits": ["never trained"],
    "validation": {},
    "seconds_per_slice": {"cpu": 0.1},
    "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
    "weights_bytes": 7,
}


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture
def card_values() -> dict[str, Any]:
    """The fields of a valid card, free to change."""
    copy: dict[str, Any] = json.loads(json.dumps(CARD))
    return copy


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """make(folder, **changes): a bundle in tmp_path with a valid card but for the changes, and
    weights that match the unchanged card (and that no network could load)."""

    def make(folder: str = "models/toy", **changes: Any) -> Path:
        bundle = tmp_path / folder
        bundle.mkdir(parents=True)
        (bundle / "weights.safetensors").write_bytes(b"weights")
        (bundle / "card.json").write_text(json.dumps({**CARD, **changes}), encoding="utf-8")
        return bundle

    return make
