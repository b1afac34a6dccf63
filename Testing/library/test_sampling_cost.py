"""What drawing samples must not cost: waits for the device, and memory that grows with slices."""

from __future__ import annotations

import pytest
import torch
from midiffusion import batching
from midiffusion.conditioning import LMISettings
from midiffusion.denoiser import Denoiser
from midiffusion.network import UNet, UNetConfig
from midiffusion.noise import VESDE
from midiffusion.samplers import SAMPLERS
from midiffusion.sampling import Plan, draw_samples, reproducible
from torch.profiler import ProfilerActivity, profile

LMI = LMISettings(dilations=(1,), bandwidths=(0.1,))
STEPS, SIZE = 4, 64


def denoiser() -> Denoiser:
    return Denoiser(UNet(UNetConfig(LMI.channels, channels=(8, 8), embedding=16)), 0.5).eval()


def plan(name: str) -> Plan:
    return Plan(SAMPLERS[name], STEPS, VESDE(0.01, 10.0), seed=0, samples=2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_nothing_waits_for_the_device(name):
    """A tensor on the device "meta" has no values: whatever would read one, and so make the host
    wait for a GPU, raises. Enough slices for several batches, enough levels for both sides of the
    one above which there are no cross maps."""
    source = torch.empty(9, 1, SIZE, SIZE, device="meta")
    with reproducible():
        samples = list(draw_samples(denoiser().to("meta"), LMI, source, plan(name)))
    assert [sample.shape for sample in samples] == [source.shape] * 2
    with pytest.raises(RuntimeError):
        samples[0].max().item()  # the proof that it would have


def peak_bytes(slices: int, name: str = "dpmpp_2m") -> int:
    """Most memory that tensors hold at once while samples are drawn."""
    network = denoiser()
    source = torch.rand(slices, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    activities = [ProfilerActivity.CPU]
    with reproducible(), profile(activities=activities, profile_memory=True) as watched:
        for _ in draw_samples(network, LMI, source, plan(name)):
            pass
    held = most = 0
    events = watched.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_memory_of_the_network_does_not_grow_with_slices():
    """What is kept of each slice is its maps and a few images; what the network needs for one is
    several times that, and is needed for one batch at a time."""
    few, many = peak_bytes(8), peak_bytes(40)
    image = 4 * SIZE**2
    kept = LMI.channels + 12
    assert (many - few) / 32 <= kept * image
    assert few > 4 * kept * image  # the network's share, which stays, is what would show


@pytest.mark.parametrize("name", ["heun", "predictor_corrector"])
def test_of_a_large_volume_nothing_but_samples_is_kept(name, monkeypatch):
    """The sample in the making and the one before, with whoever asked; a slab has all the rest."""
    monkeypatch.setattr(batching, "SLAB_PIXELS", 8 * SIZE**2)
    few, many = peak_bytes(16, name), peak_bytes(24, name)
    assert (many - few) / 8 <= 2.1 * 4 * SIZE**2
