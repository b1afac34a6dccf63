"""Large volumes in slabs: what is kept of a slice is kept of few, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from midiffusion import batching
from midiffusion.batching import SliceBatches, even_parts
from midiffusion.bundle import lmi_settings
from midiffusion.errors import Cancelled
from midiffusion.noise import VESDE
from midiffusion.samplers import SAMPLERS
from midiffusion.sampling import Plan, Progress, SharedNoise, draw_samples, reproducible
from midiffusion.volume import Volume
from torch import Tensor

SLICES, SIZE, BATCH = 11, 32, 2


def plan(sampler: str) -> Plan:
    return Plan(SAMPLERS[sampler], 3, VESDE(0.01, 5.0), seed=3, samples=2, gap=0.4)


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch):
    """most(slices, size): no slab of slices of that size may be longer from now on."""

    def limit(slices: int, size: int) -> None:
        monkeypatch.setattr(batching, "SLAB_PIXELS", slices * size**2)

    return limit


@pytest.fixture
def draw(card, denoiser):
    """draw(sampler, on_step): all samples of a source."""
    source = torch.rand(SLICES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def samples(sampler: str, on_step=None) -> list[Tensor]:
        with reproducible():
            lmi, how = lmi_settings(card), plan(sampler)
            drawn = draw_samples(denoiser.eval(), lmi, source, how, on_step, batch=BATCH)
            return [sample.clone() for sample in drawn]

    return samples


def share(progress: Progress) -> float:
    """How the bars of the command line and the panel reckon it."""
    return (progress.step - 1 + progress.slices_done / progress.slices) / progress.of


@pytest.mark.parametrize(
    ("slices", "limit", "multiple", "sizes"),
    [
        (5, 8, 4, [5]),
        (8, 8, 4, [8]),
        (9, 8, 4, [8, 1]),
        (21, 8, 4, [8, 8, 5]),
        (20, 9, 1, [7, 7, 6]),
        (10, 3, 4, [3, 3, 3, 1]),
        (3, 0, 4, [1, 1, 1]),
    ],
)
def test_slabs_are_few_even_and_of_whole_batches(slices, limit, multiple, sizes):
    found = even_parts(slices, limit, multiple)
    assert [part.stop - part.start for part in found] == sizes
    assert [i for part in found for i in range(slices)[part]] == list(range(slices))


def test_an_ordinary_volume_is_one_slab():
    like = torch.empty(256, 1, 128, 128, device="meta")
    assert SliceBatches(torch.device("cpu")).slabs(like, 15) == [slice(0, 256)]


def test_on_a_gpu_half_the_free_memory_holds_a_slab(monkeypatch):
    like, images = torch.empty(100, 1, 64, 64, device="meta"), 10
    kept = images * 64 * 64 * 4  # bytes of a slice
    batches = SliceBatches(torch.device("cuda"))
    for free, sizes in ((200 * kept, [100]), (90 * kept, [34, 34, 32]), (6 * kept, [3] * 33 + [1])):
        monkeypatch.setattr(batching, "free_bytes", lambda device, free=free: free)
        assert [s.stop - s.start for s in batches.slabs(like, images)] == sizes


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_are_the_same_to_the_last_bit(draw, most, sampler):
    whole = draw(sampler)
    for limit in (2, 6):
        most(limit, SIZE)
        for one, other in zip(draw(sampler), whole, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("gap", [0.0, 0.7])
def test_noise_of_a_part_is_that_part_of_the_noise(gap):
    like = torch.zeros(9, 1, 16, 20)
    whole = SharedNoise(1, 0, like, gap)(3)
    noise = SharedNoise(1, 0, like, gap)
    for part in (slice(0, 4), slice(4, 5), slice(7, 9), slice(2, 6), slice(4, 5), slice(None)):
        assert torch.equal(noise(3, part), whole[part])
        noise(4, part)  # another key between


def test_progress_goes_through_the_slabs_without_a_step_back(draw, most, denoiser):
    seen: list[Progress] = []
    most(4, SIZE)
    draw("heun", seen.append)
    evaluations = plan("heun").evaluations
    assert {p.of for p in seen} == {2 * 3 * evaluations}
    assert [p.slices for p in seen if p.slices_done == p.slices] == (
        2 * ([4] * 2 * evaluations + [3] * evaluations)
    )
    shares = [share(p) for p in seen]
    assert all(before < after for before, after in pairwise(shares)) and shares[-1] == 1
    done = 0
    for progress, before in zip(seen, [None, *seen], strict=False):
        new = before is None or before.step < progress.step
        done += progress.slices_done - (0 if new else before.slices_done)
        # Off by as much as the last slab is smaller than the others.
        assert share(progress) == pytest.approx(done / (2 * evaluations * SLICES), abs=0.04)
        assert (progress.preview is None) == (progress.slices_done < progress.slices)


def test_the_time_left_counts_slices_not_slabs(draw, most, monkeypatch):
    """A clock that goes on by one with every batch of two slices, and by half of that with one."""
    seen: list[Progress] = []
    most(4, SIZE)
    now = [0.0]

    def on_step(progress: Progress) -> None:
        seen.append(progress)

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr("midiffusion.sampling.time", Clock)
    batches = SliceBatches.map

    def timed(self, slices, compute, on_batch=None):
        def told(done: int) -> None:
            now[0] += 1.0 if done % BATCH == 0 else 0.5
            if on_batch is not None:
                on_batch(done)

        return batches(self, slices, compute, told if on_batch is not None else None)

    monkeypatch.setattr(SliceBatches, "map", timed)
    draw("dpmpp_2m", on_step)
    total = 2 * plan("dpmpp_2m").evaluations * SLICES / BATCH
    assert seen[-1].eta_s == 0
    elapsed = 0.0
    for progress, before in zip(seen, [None, *seen], strict=False):
        new = before is None or before.step < progress.step
        elapsed += (progress.slices_done - (0 if new else before.slices_done)) / BATCH
        assert progress.eta_s == pytest.approx(total - elapsed)


def test_a_cancel_within_a_later_slab_stops_at_the_next_batch(draw, most, denoiser):
    calls: list[int] = []
    forward = denoiser.forward
    denoiser.forward = lambda x, *rest: calls.append(len(x)) or forward(x, *rest)

    def cancel(progress: Progress) -> None:
        if (progress.step, progress.slices_done) == (7, 2):  # of the second slab
            raise Cancelled("enough")

    most(4, SIZE)
    with pytest.raises(Cancelled):
        draw("heun", cancel)
    assert calls == [BATCH] * (6 * 2 + 1)


def test_a_batch_that_did_not_fit_is_not_tried_in_the_next_slab(draw, most, denoiser):
    whole, tried = draw("dpmpp_2m"), []
    forward = denoiser.forward

    def small(x, *rest):
        tried.append(len(x))
        if len(x) > 1:
            raise MemoryError
        return forward(x, *rest)

    denoiser.forward = small
    most(4, SIZE)
    for one, other in zip(draw("dpmpp_2m"), whole, strict=True):
        assert (one - other).abs().max() < 1e-4
    assert tried[0] == BATCH and set(tried[1:]) == {1}


def test_a_translation_is_the_same_with_all_that_belongs_to_it(model, volume, most, monkeypatch):
    monkeypatch.setattr(batching, "_CPU_BATCH", 2)
    asked = {"steps": 5, "samples": 2, "device": "cpu", "agreement": True}
    whole = model.translate(volume, **asked)
    seen: list[Progress] = []
    most(2, 64)
    parts = model.translate(volume, **asked, on_step=seen.append)
    for name in ("volume", "uncertainty", "agreement"):
        one, other = getattr(parts, name), getattr(whole, name)
        assert isinstance(one, Volume) and np.array_equal(one.data, other.data)
    assert {p.of for p in seen} == {2 * 3 * 5}  # samples, slabs, evaluations
    shares = [share(p) for p in seen]
    assert shares == sorted(shares)
    assert seen[-1] == replace(seen[-1], step=30, slices_done=1, slices=1, preview=None, eta_s=None)
