"""Bundles: reading gives what was written, and damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import changeCard, saveTiny, tinyNetworks
from midiffusion.diffusion.denoiser import ResidualDenoiser
from midiffusion.errors import CorruptModel, InvalidCard, OutOfMemory, UnknownModel
from midiffusion.models import registry
from midiffusion.models.bundle import read_bundle, save_bundle
from midiffusion.models.card import ModelCard
from midiffusion.pipeline.target import load_model


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return saveTiny(tmp_path / "tiny")


def test_bundle_loads_by_folder_and_by_id_as_the_same_model(bundle, volume):
    results = [
        model.translate(volume, device="cpu").volume.data
        for model in (load_model(bundle), load_model("tiny", bundle.parent))
    ]
    assert np.array_equal(*results)
    assert sorted(p.name for p in bundle.iterdir()) == [registry.CARD, registry.WEIGHTS]


def test_networks_are_those_that_were_saved(bundle):
    backbone, denoiser, _ = tinyNetworks()
    found = read_bundle(bundle)
    for saved, loaded in ((backbone, found.backbone), (denoiser, found.denoiser)):
        for name, value in saved.state_dict().items():
            assert torch.equal(value.bfloat16().float(), loaded.state_dict()[name])


def test_own_networks_of_a_target_replace_the_shared_ones(bundle):
    card = ModelCard.read(bundle / registry.CARD)
    backbone, denoiser, _ = tinyNetworks()
    with torch.no_grad():
        backbone.network.outlet.bias.fill_(0.25)
        denoiser.denoise.network.outlet.bias.fill_(0.75)
    save_bundle(bundle, card, look=torch.arange(16.0), backbone=backbone, denoiser=denoiser)
    found = read_bundle(bundle)
    assert float(found.backbone.network.outlet.bias[0]) == 0.25
    assert isinstance(found.denoiser, ResidualDenoiser)
    assert float(found.denoiser.denoise.network.outlet.bias[0]) == 0.75
    assert torch.equal(found.look, torch.arange(16.0))


def test_model_that_draws_no_samples_has_no_denoiser(tmp_path):
    assert read_bundle(saveTiny(tmp_path / "tiny", draws_samples=False)).denoiser is None


def test_saving_again_leaves_other_files_alone(bundle):
    (bundle / "notes.txt").write_text("mine")
    save_bundle(bundle, ModelCard.read(bundle / registry.CARD))
    assert (bundle / "notes.txt").read_text() == "mine"


def test_unknown_model_is_refused(tmp_path):
    with pytest.raises(UnknownModel):
        load_model("no-such-model", tmp_path)


@pytest.mark.parametrize("folder", ["tiny", "backbone"])
def test_one_changed_byte_is_refused(bundle, folder):
    path = bundle.parent / folder / registry.WEIGHTS
    weights = bytearray(path.read_bytes())
    weights[-1] ^= 1
    path.write_bytes(weights)
    with pytest.raises(CorruptModel):
        load_model(bundle)


def test_missing_backbone_is_named(bundle):
    changeCard(bundle, backbone_sha256="1" * 64)
    with pytest.raises(CorruptModel, match="needs a backbone"):
        load_model(bundle)


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"schema": 9}, CorruptModel),
        ({"backbone": {"channels": [8, 8], "cond_channels": 3}}, CorruptModel),
        ({"backbone": {"chanels": [8, 8]}}, CorruptModel),
        ({"lmi": {"dilations": [1], "bandwidths": [0.1], "source": False}}, InvalidCard),
        ({"lmi": {"estimator": "no such"}}, InvalidCard),
    ],
)
def test_config_that_does_not_fit_its_weights_is_refused(bundle, changes, error):
    path = bundle.parent / "backbone" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(error):
        load_model(bundle)


def test_shortage_of_memory_does_not_blame_the_file(bundle, monkeypatch):
    def scarce(path):
        raise MemoryError

    monkeypatch.setattr("midiffusion.models.bundle.load_file", scarce)
    with pytest.raises(OutOfMemory):
        load_model(bundle)


@pytest.mark.parametrize("name", [entry.id for entry in registry.available()])
def test_shipped_models_load(name):
    found = read_bundle(name)
    assert found.card.id == name and found.card.limits
