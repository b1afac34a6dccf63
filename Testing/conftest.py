"""Fixtures shared by all tiers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import TINY

# Before anything imports torch or Qt: small tests lose more to threads than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

ROOT = Path(__file__).resolve().parents[1]

# A card whose weights are the seven bytes "weights", which no network could load.
CARD: dict[str, Any] = {
    **TINY,
    "id": "toy",
    "title": "Toy target",
    "pixel_mm": 6.0,
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
