"""Bundles: what is written is read again, and what is wrong with one is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from midiffusion import registry
from midiffusion.bundle import save_bundle
from midiffusion.card import ModelCard
from midiffusion.denoiser import Denoiser
from midiffusion.errors import CorruptModel, InvalidCard, OutOfMemory, UnknownModel
from midiffusion.model import load_model
from safetensors.torch import load_file, save_file

RANGE = 1000.0  # of outputs


@pytest.fixture
def bundle(tmp_path: Path, card: ModelCard, denoiser: Denoiser) -> Path:
    save_bundle(tmp_path / "toy", card, denoiser)
    return tmp_path / "toy"


def test_a_saved_bundle_loads_as_the_same_model(bundle, model, volume):
    assert sorted(p.name for p in bundle.iterdir()) == [registry.CARD, registry.WEIGHTS]
    modes = {p.stat().st_mode for p in bundle.iterdir()}
    assert len(modes) == 1  # whoever may read the card may read the weights
    expected = model.translate(volume, device="cpu").volume.data
    for loaded in (load_model(bundle), load_model("toy", bundle.parent)):
        found = loaded.translate(volume, device="cpu").volume.data
        assert np.abs(found - expected).max() < 1e-4 * RANGE
        assert loaded.card.weights_bytes == (bundle / registry.WEIGHTS).stat().st_size


def test_saving_again_replaces_the_bundle_and_spares_other_files(bundle, card, denoiser):
    (bundle / "notes.txt").write_text("mine")
    with torch.no_grad():
        denoiser.network.outlet.bias.fill_(0.5)
    denoiser.sigma_data = 0.4
    written = save_bundle(bundle, card, denoiser)
    assert written.sigma_data == 0.4
    loaded = load_model(bundle)
    assert loaded.card == written == ModelCard.read(bundle / registry.CARD)
    assert torch.equal(
        loaded.denoiser.state_dict()["network.outlet.bias"], denoiser.network.outlet.bias
    )
    assert (bundle / "notes.txt").read_text() == "mine"


def test_unknown_model(tmp_path):
    with pytest.raises(UnknownModel):
        load_model("no-such-model", tmp_path)


def test_one_changed_byte_is_noticed(bundle):
    weights = bytearray((bundle / registry.WEIGHTS).read_bytes())
    weights[-3] ^= 1
    (bundle / registry.WEIGHTS).write_bytes(weights)
    with pytest.raises(CorruptModel, match="SHA-256"):
        load_model(bundle)


def _rewrite(bundle: Path, contents: Path) -> None:
    """Puts other weights into the bundle and lets its card vouch for them."""
    import hashlib

    data = contents.read_bytes()
    card = ModelCard.read(bundle / registry.CARD)
    card = replace(card, weights_sha256=hashlib.sha256(data).hexdigest(), weights_bytes=len(data))
    (bundle / registry.WEIGHTS).write_bytes(data)
    (bundle / registry.CARD).write_text(card.to_json())


@pytest.mark.parametrize("change", ["shape", "missing", "surplus", "not safetensors"])
def test_weights_of_another_network_are_refused(bundle, tmp_path, change):
    state = load_file(bundle / registry.WEIGHTS)
    name = "network.outlet.bias"
    if change == "shape":
        state[name] = torch.zeros(7)
    elif change == "missing":
        del state[name]
    elif change == "surplus":
        state["other"] = torch.zeros(1)
    other = tmp_path / "other"
    save_file(state, other)
    if change == "not safetensors":
        other.write_bytes(b"not weights at all")
    _rewrite(bundle, other)
    with pytest.raises(CorruptModel, match="Get the model again"):
        load_model(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"cond_channels": 99}},
        {"network": {"depth": 3}},
        {"network": {"cond_channels": 3, "channels": ["wide"]}},
        {"lmi": {"estimator": "magic"}},
        {"lmi": {"radius": 3}},
        {"lmi": {"dilations": 2}},
        {"intensity": {"kind": "magic"}},
    ],
)
def test_cards_whose_parts_make_no_model_are_refused(bundle, changes):
    card = replace(ModelCard.read(bundle / registry.CARD), **changes)
    (bundle / registry.CARD).write_text(card.to_json())
    with pytest.raises(InvalidCard):
        load_model(bundle)


@pytest.mark.parametrize("where", ["UNet", "load_file"])
def test_out_of_memory_while_loading_is_no_fault_of_the_model(model, tmp_path, monkeypatch, where):
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    save_bundle(tmp_path / "toy", model.card, model.denoiser)
    monkeypatch.setattr(f"midiffusion.bundle.{where}", full)
    with pytest.raises(OutOfMemory, match=r"'toy' doesn't fit .* \(\d+ MB used, \d+ MB free\)"):
        load_model(tmp_path / "toy")
