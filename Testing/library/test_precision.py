"""The network's number format: who chooses it, what it may change, what it may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundles import saveTiny
from midiffusion import batching, model, precision, registry
from midiffusion.evaluation.speed.timing import phantom
from midiffusion.model import TranslationModel, load_model

CPU, BF16, F32 = torch.device("cpu"), torch.bfloat16, torch.float32

# What bfloat16 may change, as shares of the output's range: everywhere, and root mean square.
# Seen with the shipped model: 0.007 and 0.0007.
LARGEST, TYPICAL = 0.03, 0.004


@pytest.mark.parametrize(
    "units, expected",
    [
        ({"avx2": True, "avx512_f": True}, F32),  # bfloat16 only emulated
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, BF16),
        ({"avx512_bf16": False, "amx_bf16": True}, BF16),
        ({}, F32),
    ],
)
def test_a_cpu_computes_in_what_it_has_units_for(monkeypatch, units, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert precision.network_dtype(CPU) == expected


def test_a_pytorch_that_can_not_tell_means_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.network_dtype(CPU) == F32


@pytest.mark.parametrize("generation, expected", [((7, 5), F32), ((8, 0), BF16), ((10, 0), BF16)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(monkeypatch, generation, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert precision.network_dtype(torch.device("cuda", 0)) == expected


def test_other_devices_stay_with_float32():
    assert precision.network_dtype(torch.device("mps")) == F32


def run(loaded: TranslationModel, dtype: torch.dtype, monkeypatch, batch: int = 4) -> np.ndarray:
    """A phantom of three slices in that format, in shares of the output's nominal range."""
    monkeypatch.setattr(model, "network_dtype", lambda device: dtype)
    monkeypatch.setattr(batching, "_CPU_BATCH", batch)
    volume = phantom(3, 64, loaded.card.pixel_mm, loaded.card.orientation)
    made = loaded.translate(volume, device="cpu")
    assert made.provenance["precision"] == str(dtype).split(".")[1]
    unit = loaded.card.intensity.get("unit", 3060.0)
    return made.volume.data / unit


@pytest.mark.parametrize("name", [entry.id for entry in registry.available() if entry.card])
def test_shipped_models_say_the_same_in_bfloat16(name, monkeypatch):
    loaded = load_model(name)
    exact = run(loaded, F32, monkeypatch)
    fast = run(loaded, BF16, monkeypatch)
    difference = np.abs(fast - exact)
    assert 0 < difference.max() < LARGEST
    assert np.sqrt((difference**2).mean()) < TYPICAL
    for batch in (1, 2):
        assert np.abs(run(loaded, BF16, monkeypatch, batch) - fast).max() < LARGEST


def test_only_the_network_computes_in_bfloat16(tmp_path, monkeypatch):
    loaded = load_model(saveTiny(tmp_path / "tiny"))
    kinds = set()

    def listen(module, inputs, output):
        kinds.update((type(module).__name__, value.dtype) for value in (*inputs, output))

    for module in loaded.denoiser.modules():
        module.register_forward_hook(listen)
    run(loaded, BF16, monkeypatch)
    assert {dtype for name, dtype in kinds if name == "Denoiser"} == {F32}
    assert ("Conv2d", BF16) in kinds
    assert {parameter.dtype for parameter in loaded.denoiser.parameters()} == {F32}
