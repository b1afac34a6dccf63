"""The network's number format: who chooses it, what it may change, what it may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundles import saveTiny
from midiffusion.images.volume import Volume
from midiffusion.pipeline.target import load_model
from midiffusion.runtime import precision

CPU, BF16, F32 = torch.device("cpu"), torch.bfloat16, torch.float32


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


def test_only_the_network_computes_in_bfloat16(tmp_path, monkeypatch):
    for module in ("mean", "sample"):
        name = f"midiffusion.pipeline.{module}.network_dtype"
        monkeypatch.setattr(name, lambda device: BF16)
    model = load_model(saveTiny(tmp_path / "tiny"))
    kinds = set()

    def listen(module, inputs, output):
        kinds.update((type(module).__name__, value.dtype) for value in (*inputs, output))

    for network in (model.backbone, model.denoiser):
        for module in network.modules():
            module.register_forward_hook(listen)
    data = np.zeros((3, 24, 24), np.float32)
    data[:, 4:20, 4:20] = np.random.default_rng(0).uniform(50, 100, (3, 16, 16))
    made = model.translate(Volume(data, np.diag([6.0, 6, 8, 1])), steps=2, device="cpu")
    assert made.volume.data.dtype == np.float32
    assert {dtype for name, dtype in kinds if name == "ResidualDenoiser"} == {F32}
    assert ("Conv2d", BF16) in kinds
    assert {parameter.dtype for parameter in model.backbone.parameters()} == {F32}
