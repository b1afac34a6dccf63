"""The translation pipeline with a real, tiny, untrained network: what must hold for any weights."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from midiffusion import batching
from midiffusion.device import choose_device
from midiffusion.errors import (
    DeviceUnavailable,
    InvalidParameter,
    InvalidVolume,
    OutOfMemory,
    UnlikelySource,
)
from midiffusion.intensity import HounsfieldIntensity, PercentileIntensity, head_mask
from midiffusion.model import TranslationModel
from midiffusion.sampling import Brightness
from midiffusion.volume import Volume

RANGE = 1000.0  # of outputs


def test_output_is_on_exactly_the_sources_grid(model, volume):
    before = volume.data.copy()
    result = model.translate(volume, device="cpu")
    assert result.volume.data.shape == volume.data.shape
    assert result.volume.data.dtype == np.float32
    assert np.array_equal(result.volume.ijkToRAS, volume.ijkToRAS)
    assert result.volume.ijkToRAS is not volume.ijkToRAS
    assert np.isfinite(result.volume.data).all() and result.volume.data.std() > 0
    assert result.volume.data.min() >= 0  # nothing is darker than air
    assert result.volume.modality == "MR FLAIR" and result.uncertainty is None
    np.testing.assert_array_equal(volume.data, before)


def test_provenance_is_json_and_complete(model, volume):
    import json

    result = model.translate(volume, steps=4, seed=7, samples=2, device="cpu")
    provenance = json.loads(json.dumps(result.provenance))
    expected = {
        "model": "toy",
        "weightsSHA256": model.card.weights_sha256,
        "steps": 3,  # heun: two for each step and one for the last
        "seed": 7,
        "samples": 2,
        "sampler": "heun",
        "precision": "float32",
        "torch": torch.__version__,
        "sourceModality": "MR",
        "synthetic": 1,
    }
    assert expected.items() <= provenance.items()
    assert provenance["version"] and provenance["seconds"] >= 0
    threads = torch.get_num_threads()
    assert re.fullmatch(rf"cpu \(.+, {threads} threads\)", provenance["device"])


def test_detail_finer_than_the_models_pixels_comes_from_the_source(model, volume):
    fine = volume.ijkToRAS @ np.diag([0.25, 1 / 6, 1.0, 1.0])  # 1 mm where the model has 3
    data = np.full((5, 120, 120), 300.0)
    data[:, :, ::2] = 400.0
    source = Volume(data, fine, "MR")

    def stripes(detail: bool) -> float:
        made = model.translate(source, steps=3, device="cpu", detail=detail).volume.data
        inside = made[:, 40:80, 40:80]
        return float(np.abs((inside[..., ::2] - inside[..., 1::2]).mean()) / np.ptp(made))

    assert stripes(False) < 0.1 * stripes(True)


@pytest.mark.parametrize(
    ("modality", "intensity", "window"),
    [
        ("MR", PercentileIntensity(), 25.0),
        ("CT", PercentileIntensity(), 1.7),
        ("MR", HounsfieldIntensity(), 1.7),
    ],
)
def test_the_window_of_detail_is_narrower_with_ct_on_either_side(
    card, denoiser, volume, modality, intensity, window
):
    model = TranslationModel(replace(card, intensity=intensity.to_dict()), denoiser)
    source = replace(volume, modality=modality)

    def told(detail: bool) -> float | None:
        made = model.translate(source, steps=1, device="cpu", detail=detail)
        return made.provenance["detailMm"]

    assert (told(True), told(False)) == (window, None)


@pytest.mark.parametrize(("detail", "steps"), [(True, 4), (False, 8)])
def test_without_detail_a_sharp_sample_takes_more_evaluations(card, denoiser, detail, steps):
    model = TranslationModel(replace(card, default_steps=4), denoiser)
    assert model.default_steps(detail) == steps
    patient = TranslationModel(replace(card, default_steps=20), denoiser)
    assert patient.default_steps(detail) == 20


@pytest.mark.parametrize(("detail", "last"), [(True, 0.5), (False, 0.01)])
def test_where_detail_follows_texture_is_not_sampled(model, volume, detail, last):
    seen = []
    model.denoiser.register_forward_pre_hook(lambda _, arguments: seen.append(float(arguments[1])))
    model.translate(volume, steps=4, device="cpu", detail=detail)
    assert seen[0] == model.card.sigma_max and min(seen) == pytest.approx(last)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_maruyama", "predictor_corrector"])
@pytest.mark.parametrize("steps", [1, 5])
def test_steps_counts_network_evaluations(model, volume, sampler, steps):
    calls = []
    forward = model.denoiser.forward
    model.denoiser.forward = lambda *a: calls.append(a[1]) or forward(*a)
    model.translate(volume, steps=steps, sampler=sampler, device="cpu")
    evaluations = [sigma for n, sigma in enumerate(calls) if n == 0 or calls[n - 1] != sigma]
    batches = math.ceil(5 / batching.SliceBatches(torch.device("cpu")).size)
    assert len(calls) == steps * batches
    assert evaluations[0] == model.card.sigma_max


@pytest.mark.parametrize("sampler", ["heun", "predictor_corrector"])
def test_seed_decides_the_result_whatever_the_batch_size(model, volume, sampler, monkeypatch):
    def run(seed: int, batch: int) -> np.ndarray:
        monkeypatch.setattr(batching, "_CPU_BATCH", batch)
        return model.translate(
            volume, seed=seed, steps=9, sampler=sampler, device="cpu"
        ).volume.data

    first = run(3, 1)
    for batch in (2, 5, 64):
        assert np.abs(run(3, batch) - first).max() < 1e-4 * RANGE
    assert np.abs(run(4, 5) - first).max() > 1e-2 * RANGE


@pytest.fixture
def no_gain(monkeypatch):
    monkeypatch.setattr(PercentileIntensity, "gain", lambda self, *_: 1.0)


def test_mean_and_deviation_are_those_of_the_samples(model, volume, no_gain):
    one = model.translate(volume, samples=1, device="cpu").volume.data
    two = model.translate(volume, samples=2, device="cpu")
    other = 2 * two.volume.data - one  # the second sample, since the first is the same
    assert np.abs(other - one).max() > 1e-2 * RANGE
    np.testing.assert_allclose(
        two.uncertainty.data, np.abs(other - one) / np.sqrt(2), atol=1e-3 * RANGE
    )
    assert np.array_equal(two.uncertainty.ijkToRAS, volume.ijkToRAS)
    three = model.translate(volume, samples=3, device="cpu")
    third = 3 * three.volume.data - one - other
    np.testing.assert_allclose(
        three.uncertainty.data, np.std([one, other, third], axis=0, ddof=1), atol=1e-3 * RANGE
    )


def test_ct_models_answer_in_hounsfield_units(card, denoiser, volume, no_gain, monkeypatch):
    monkeypatch.setattr(Brightness, "gain", lambda self: torch.ones(()))  # nor for MR
    monkeypatch.setattr(HounsfieldIntensity, "take_bone_out", lambda self, data: None)
    monkeypatch.setattr(TranslationModel, "shown", lambda self, slices, source_is_ct: slices)
    mr = TranslationModel(card, denoiser).translate(volume, samples=2, device="cpu", detail=False)
    as_ct = replace(card, intensity=HounsfieldIntensity().to_dict())
    ct = TranslationModel(as_ct, denoiser).translate(volume, samples=2, device="cpu", detail=False)
    np.testing.assert_allclose(ct.volume.data, mr.volume.data * 3.06 - 1000, atol=0.05)
    # A standard deviation has no offset.
    np.testing.assert_allclose(ct.uncertainty.data, mr.uncertainty.data * 3.06, atol=0.05)


class Dusk(torch.nn.Module):
    """In place of the network: everything is dark, and no two samples are alike."""

    def forward(self, x: torch.Tensor, sigma: float, cond: torch.Tensor) -> torch.Tensor:
        return 0.4 + 0.05 * torch.tanh(x / sigma)


@pytest.mark.parametrize("samples", [1, 3])
def test_what_comes_out_dark_is_brought_to_where_heads_are(card, volume, monkeypatch, samples):
    model = TranslationModel(card, Dusk())
    made = model.translate(volume, samples=samples, device="cpu")
    monkeypatch.setattr(PercentileIntensity, "gain", lambda self, *_: 1.0)
    before = model.translate(volume, samples=samples, device="cpu")
    data = made.volume.data
    assert np.percentile(data[head_mask(data)], 99.5) == pytest.approx(750, rel=1e-3)
    gain = made.provenance["gain"]
    assert gain == pytest.approx(750 / 430, rel=0.08) and before.provenance["gain"] == 1
    np.testing.assert_allclose(data, gain * before.volume.data, rtol=1e-3, atol=1e-3)
    if samples > 1:
        spread = made.uncertainty.data
        np.testing.assert_allclose(spread, gain * before.uncertainty.data, rtol=1e-3, atol=1e-3)


@pytest.fixture
def whole() -> Volume:
    """A head of 60 mm of brain, bone and scalp in six slices, the first of them empty."""
    k, j, i = np.indices((6, 40, 40))
    radius = np.hypot(j - 19.5, i - 19.5) * 5
    head = np.where(radius < 60, 300.0, 0)
    head[(radius >= 60) & (radius < 72)] = 60
    head[(radius >= 72) & (radius < 84)] = 250
    return Volume(np.where(k > 0, head, 0), np.diag([-5.0, -5.0, 5.0, 1.0]), "FLAIR")


@pytest.fixture
def brain(whole) -> Volume:
    """Of it the brain alone."""
    j, i = np.indices((40, 40))
    inside = np.hypot(j - 19.5, i - 19.5) * 5 < 60
    return replace(whole, data=np.where(inside, whole.data, 0))


def test_a_dark_result_of_a_whole_head_stays_dark(card, whole, brain):
    """As that of one whose fat is suppressed."""
    model = TranslationModel(replace(card, pixel_mm=5 / 3), Dusk())
    assert model.translate(whole, device="cpu").provenance["gain"] == 1
    assert model.translate(brain, device="cpu").provenance["gain"] > 1.2


def test_no_bone_in_the_ct_of_a_brain_alone(card, whole, brain):
    ct = replace(card, pixel_mm=5 / 3, intensity=HounsfieldIntensity().to_dict())
    model = TranslationModel(ct, Dusk())  # at 220 HU and more

    def made(volume: Volume) -> tuple[float, float, bool]:
        """Brightest voxel, largest deviation, and whether bone was taken out."""
        found = model.translate(volume, device="cpu", samples=2)
        bright, spread = found.volume.data.max(), found.uncertainty.data.max()
        return float(bright), float(spread), "boneTakenOut" in found.provenance

    tall = replace(whole, ijkToRAS=whole.ijkToRAS @ np.diag([1, 1, 3.0, 1]))  # 75 mm
    assert made(tall)[0] > 200 and not made(tall)[2]
    bright, spread, told = made(replace(brain, ijkToRAS=tall.ijkToRAS))
    assert bright == pytest.approx(60, abs=0.1) and told
    assert spread < 0.5 * made(tall)[1]
    # Of 25 mm a head can look so too, and slices that show nothing are no more of it.
    assert made(brain)[0] > 200 and not made(brain)[2]
    thin = np.zeros((30, 40, 40))
    thin[10:15] = brain.data[1:]
    assert made(replace(brain, data=thin))[0] > 200


def test_noise_is_told_and_warned_of_where_it_is_strong(model, volume):
    random = np.random.default_rng(0)

    def told(sigma: float) -> dict[str, object]:
        real, imaginary = 400 * sigma * random.standard_normal((2, 5, 60, 60))
        disc = np.where(np.hypot(*(np.mgrid[:60, :60] - 30)) < 25, 400.0, 0.0)
        source = Volume(np.hypot(disc + real, imaginary), np.diag([-3.0, -3.0, 5.0, 1.0]), "T1")
        return model.translate(source, steps=1, device="cpu").provenance

    some = told(0.05)
    # The disc is all there is, and its median is brought to 0.5.
    assert some["sourceNoise"] == pytest.approx(0.025, rel=0.25) and "warning" not in some
    with pytest.warns(UnlikelySource, match="very noisy"):
        much = told(0.4)
    assert "very noisy" in str(much["warning"])
    ct = model.translate(replace(volume, modality="CT"), steps=1, device="cpu")
    assert ct.provenance["sourceNoise"] is None


class Echo(torch.nn.Module):
    """In place of the network: D = sum of the conditioning, so that the pipeline can be seen."""

    def forward(self, x: torch.Tensor, sigma: float, cond: torch.Tensor) -> torch.Tensor:
        return cond[:, :1] + 0 * x


def test_a_ct_is_translated_as_if_it_lay_on_nothing(model):
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (3, 64, 64)), indexing="ij")
    head = np.hypot(j / 0.8, i / 0.7) < 0.8
    alone = np.where(head, 40.0 + 30 * np.cos(9 * i) * np.sin(7 * j), -1000.0)
    alone[(np.hypot(j / 0.8, i / 0.7) > 0.7) & head] = 900
    couch = alone.copy()
    couch[:, -8:-4, 6:-6] = 200
    matrix = np.diag([-3.0, -3.0, 5.0, 1.0])
    a, b = (model.translate(Volume(data, matrix), steps=2) for data in (alone, couch))
    assert np.array_equal(a.volume.data, b.volume.data)
    # What looks like a couch in an MR image may be anything.
    shifted = [Volume(data + 1000, matrix) for data in (alone, couch)]
    a, b = (model.translate(volume, steps=2) for volume in shifted)
    assert not np.array_equal(a.volume.data, b.volume.data)


@pytest.mark.parametrize("detail", [True, False])
def test_where_the_source_shows_nothing_there_is_air(model, detail):
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (4, 64, 64)), indexing="ij")
    head = np.hypot(j, i) < 0.5
    data = np.where(head, 300.0 + 100 * np.cos(9 * i), 0.0)
    data[0] = 0  # a slice that was not acquired
    source = Volume(data, np.diag([-3.0, -3.0, 5.0, 1.0]))
    made = model.translate(source, steps=2, device="cpu", detail=detail).volume.data
    assert not made[np.hypot(j, i) > 0.65].any() and not made[0].any()
    assert made[1:][head[1:]].any()


def test_structure_stays_where_it_is_in_the_patient(card):
    # LMI answers where there is structure: two balls at known places in RAS must come back there.
    rng = np.random.default_rng(1)
    for seed, spacing in enumerate([(0.9, 1.3, 4.0), (2.0, 0.7, 0.7), (1.0, 6.0, 1.0)]):
        axes, _ = np.linalg.qr(np.eye(3) + 0.2 * rng.standard_normal((3, 3)))
        if seed % 2:
            axes[:, 0] *= -1
        matrix = np.eye(4)
        matrix[:3, :3] = axes * spacing
        matrix[:3, 3] = rng.uniform(-50, 50, 3)
        shape = tuple(int(90 / s) | 1 for s in spacing[::-1])
        k, j, i = np.indices(shape)
        place = np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]
        half = (np.array(shape[::-1]) - 1) / 2
        centre = matrix[:3, :3] @ (half * [1.2, 0.85, 1.1]) + matrix[:3, 3]
        distance = np.linalg.norm(place - centre, axis=-1)
        source = Volume(np.exp(-0.5 * (distance / 9) ** 2), matrix)
        model = TranslationModel(replace(card, pixel_mm=1.5), Echo())
        result = model.translate(source, steps=1, sampler="heun", device="cpu").volume
        near = result.data * (distance < 40)
        found = (near[..., None] * place).sum((0, 1, 2)) / near.sum()
        assert np.linalg.norm(found - centre) < 0.25  # mm


def test_out_of_memory_outside_the_network_is_told_with_figures(model, volume, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "randn", full)
    with pytest.raises(OutOfMemory, match=r"5 slices of 64 x 64 pixels .* MB used"):
        model.translate(volume, device="cpu")


def test_other_failures_are_not_taken_for_a_lack_of_memory(model, volume):
    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    model.denoiser.forward = broken
    with pytest.raises(RuntimeError, match="shapes differ"):
        model.translate(volume, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": True}, "samples is True"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"sampler": "magic"}, "heun"),
        ({"device": "gpu"}, "Unknown device 'gpu'"),
    ],
)
def test_bad_parameters_are_refused_at_once(model, volume, arguments, words):
    with pytest.raises(InvalidParameter, match=words):
        model.translate(volume, **{"device": "cpu", **arguments})


def test_bad_volumes_are_refused_at_once(model):
    with pytest.raises(InvalidVolume, match="constant"):
        model.translate(Volume(np.ones((2, 3, 4)), np.eye(4)), device="cpu")


def test_a_device_that_is_not_there():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(DeviceUnavailable, match=missing):
        choose_device(missing)
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("shape", [(1, 9, 9), (70, 3, 5), (4, 90, 3)])
def test_odd_sizes_go_through(model, shape):
    data = np.random.default_rng(0).uniform(size=shape)
    source = Volume(data, np.diag([0.4, 6.0, 3.0, 1.0]))
    assert model.translate(source, steps=1, device="cpu").volume.data.shape == shape


def test_translating_leaves_the_weights_trainable(model, volume):
    model.translate(volume, steps=1, device="cpu")
    x, maps = torch.randn(2, 1, 16, 16), model.denoiser.network.config.cond_channels
    model.denoiser(x, 0.5, torch.rand(2, maps, 16, 16)).sum().backward()
    assert model.denoiser.network.outlet.weight.grad is not None
