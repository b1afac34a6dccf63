"""Samples of many slices: batches and what they report, shared noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import torch
from midiffusion import batching
from midiffusion.bundle import lmi_settings
from midiffusion.errors import Cancelled, OutOfMemory
from midiffusion.io import read_volume
from midiffusion.model import load_model
from midiffusion.noise import VESDE
from midiffusion.samplers import SAMPLERS
from midiffusion.sampling import Brightness, Plan, Progress, SharedNoise, draw_samples
from midiffusion.volume import Volume

RANGE = 1000.0  # of outputs


class Recorder:
    """Keeps what on_step is given."""

    def __init__(self, then: Callable[[Progress], None] = lambda progress: None) -> None:
        self.seen: list[Progress] = []
        self.then = then

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress)
        self.then(progress)


def test_progress_covers_every_batch_and_shows_the_middle_slice(model, volume, monkeypatch):
    monkeypatch.setattr(batching, "_CPU_BATCH", 2)
    recorder = Recorder()
    model.translate(volume, steps=3, samples=2, device="cpu", on_step=recorder)
    told = [(p.step, p.of, p.slices_done, p.slices) for p in recorder.seen]
    assert told == [(step, 6, done, 5) for step in range(1, 7) for done in (2, 4, 5)]
    for progress in recorder.seen:
        assert (progress.preview is None) == (progress.slices_done < 5)
        assert progress.eta_s >= 0 and progress.device == "cpu"
        assert progress.memory_bytes is None or progress.memory_bytes > 1e6
    assert recorder.seen[-1].preview.shape == (64, 64) and recorder.seen[-1].eta_s == 0


def test_a_cancel_stops_at_the_next_batch(model, volume, monkeypatch):
    monkeypatch.setattr(batching, "_CPU_BATCH", 2)

    def cancel(progress: Progress) -> None:
        if (progress.step, progress.slices_done) == (2, 2):
            raise Cancelled("The translation was cancelled.")

    recorder = Recorder(cancel)
    with pytest.raises(Cancelled):
        model.translate(volume, steps=9, device="cpu", on_step=recorder)
    assert len(recorder.seen) == 4


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_out_of_memory_halves_the_batch_and_changes_nothing_else(
    model, volume, monkeypatch, failure
):
    monkeypatch.setattr(batching, "_CPU_BATCH", 5)
    expected = model.translate(volume, device="cpu").volume.data
    forward = model.denoiser.forward
    tried = []

    def small(x, *rest):
        tried.append(len(x))
        if len(x) > 1 and len(tried) > 2:  # memory gets short during the run
            raise failure
        return forward(x, *rest)

    model.denoiser.forward = small
    found = model.translate(volume, device="cpu").volume.data
    assert tried[:6] == [5, 5, 5, 2, 1, 1] and set(tried[6:]) == {1}
    assert np.abs(found - expected).max() < 1e-4 * RANGE


def test_out_of_memory_at_one_slice_is_told_with_figures(model, volume):
    def full(*_: object) -> None:
        raise MemoryError

    model.denoiser.forward = full
    with pytest.raises(OutOfMemory, match=r"one slice .* cpu \(\d+ MB used"):
        model.translate(volume, device="cpu")


def test_noise_is_a_pure_function_of_seed_sample_and_key():
    like = torch.zeros(3, 1, 32, 40)
    noise = SharedNoise(1, 0, like)(2)
    assert noise.shape == like.shape and noise.is_contiguous()
    assert torch.equal(noise[0], noise[2])  # shared by the slices
    assert torch.equal(noise, SharedNoise(1, 0, like)(2))
    for other in (
        SharedNoise(2, 0, like)(2),
        SharedNoise(1, 1, like)(2),
        SharedNoise(1, 0, like)(3),
    ):
        correlation = np.corrcoef(noise[0].ravel(), other[0].ravel())[0, 1]
        assert abs(correlation) < 0.12
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


def test_the_start_is_without_coarse_noise_and_white_in_all_that_is_fine():
    """Against its definition: what is left of a wave is what its Gaussian mean leaves."""
    side = 96
    noise = SharedNoise(1, 0, torch.zeros(20, 1, side, side), 0.7)
    start, whole = noise.start(), noise(0)
    ratio = torch.fft.fft2(start) / torch.fft.fft2(whole)
    assert ratio[..., 0, 0].abs().max() < 1e-3  # the mean of the slice
    sigmas = (0, 0, 7.2, 7.2)
    mean = scipy.ndimage.gaussian_filter(whole.double().numpy(), sigmas, mode="wrap")
    assert (start - (whole - torch.from_numpy(mean))).abs().max() < 1e-3
    power = ratio.abs().square().mean(dim=(0, 1))
    assert power[24:72, 24:72] == pytest.approx(1, abs=1e-4)  # four pixels a wave, and less


def test_a_start_in_parts_is_the_start_and_the_other_noise_as_it_was():
    like = torch.zeros(7, 1, 16, 16)
    noise, whole = SharedNoise(1, 0, like, 0.7), SharedNoise(1, 0, like, 0.7)
    parts = []
    for part in (slice(0, 3), slice(3, 7)):
        parts.append(noise.start(part))
        assert torch.equal(noise(0, part), whole(0, part))
    assert torch.equal(torch.cat(parts), whole.start())


@pytest.mark.parametrize("slabs", [[slice(0, 6)], [slice(0, 4), slice(4, 6)]])
def test_a_sample_is_as_bright_as_its_first_estimate(slabs):
    first = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    made = 0.85 * first + 0.1 * first.flip(0)
    brightness, after = Brightness(), []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        after.append(sigma)
        return x if sigma == 40 else torch.zeros_like(x)  # later estimates do not count

    for slab in slabs:
        known = brightness.of_first(denoise)
        known(first[slab], 40)
        known(first[slab], 2)
        brightness.compare(made[slab])
    shown = first > 0.1
    expected = first[shown].double().sum() / made[shown].double().sum()
    assert float(brightness.gain()) == pytest.approx(float(expected), rel=1e-5)
    assert after == [40, 2] * len(slabs)


@pytest.mark.parametrize(
    ("first", "made", "gain"),
    [(0.01, 0.02, 1), (0.5, 1e-9, 1.25), (0.5, -0.1, 1.25), (0.2, 0.9, 0.8)],
)
def test_nothing_shown_keeps_its_brightness_and_nothing_changes_it_by_much(first, made, gain):
    brightness = Brightness()
    brightness.of_first(lambda x, sigma: x)(torch.full((2, 1, 4, 4), first), 40)
    brightness.compare(torch.full((2, 1, 4, 4), made))
    assert float(brightness.gain()) == pytest.approx(gain)


@pytest.mark.parametrize("absolute", [False, True])
def test_samples_begin_without_coarse_noise_and_absolute_units_stay(card, absolute):
    source = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    plan = Plan(SAMPLERS["dpmpp_2m"], 3, VESDE(0.5, 5.0), 3, samples=2, absolute=absolute)
    states = []

    class Watched(torch.nn.Module):
        def forward(self, x: torch.Tensor, sigma: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            states.append(x)
            return torch.full_like(x, 0.5 if float(sigma) == 5 else 0.45)

    first, second = (s.clone() for s in draw_samples(Watched(), lmi_settings(card), source, plan))
    assert len(states) == 6
    for sample, state in enumerate((states[0], states[3])):
        assert torch.equal(state, 5 * SharedNoise(3, sample, source).start())
    for made in (first, second):  # the last step is the last estimate
        assert made == pytest.approx(0.45 if absolute else 0.5)


def test_the_seed_does_not_decide_how_bright_a_head_is(root):
    head = read_volume(root / "Resources" / "SampleData" / "openms_long19_T1W.nii.gz")
    middle = slice(23, 26)
    source = Volume(head.data[middle], head.ijkToRAS, "T1")
    shown = source.data > head.data.mean()
    flair = load_model("flair")
    made = [flair.translate(source, seed=seed, device="cpu").volume.data for seed in range(4)]
    levels = [float(one[shown].mean()) for one in made]
    assert max(levels) < 1.015 * min(levels)
    assert not np.array_equal(made[0], made[1])


def test_noise_of_slices_is_shared_the_more_the_nearer_and_the_coarser():
    """Against its definition: every slice white, detail of frequency k correlated by exp(-gap k)
    from one to the next, and nothing else changed by there being more slices."""
    gap, side = 0.7, 32
    noise = SharedNoise(1, 0, torch.zeros(200, 1, side, side), gap)(0)[:, 0]
    assert torch.equal(noise[:3], SharedNoise(1, 0, torch.zeros(3, 1, side, side), gap)(0)[:, 0])
    waves = torch.fft.fft2(noise) / side
    frequency = 2 * np.pi * np.fft.fftfreq(side)
    k = np.hypot(frequency[:, None], frequency)
    for low, high in ((0.3, 0.5), (1.0, 1.2), (2.0, 2.2)):
        ring = torch.from_numpy((k > low) & (k < high))
        power = waves[:, ring].abs().square().mean()
        assert power == pytest.approx(1, abs=0.1)
        both = (waves[1:, ring] * waves[:-1, ring].conj()).real.mean() / power
        expected = np.exp(-gap * k[ring.numpy()]).mean()
        assert both == pytest.approx(expected, abs=0.06)
