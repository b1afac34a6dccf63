"""The contrast in which a source is shown to a model of the other kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from midiffusion import model as model_module
from midiffusion.contrast import nearer_contrast
from midiffusion.evaluation.baselines import Budget, slices
from midiffusion.evaluation.baselines.published import Published
from midiffusion.evaluation.baselines.regressor import Regressor
from midiffusion.evaluation.baselines.scratch import FromScratch
from midiffusion.evaluation.baselines.slices import source_slices
from midiffusion.intensity import HounsfieldIntensity, SourceIntensity
from midiffusion.model import TranslationModel
from midiffusion.training.configuration import TrainingConfig
from midiffusion.volume import Volume
from toys import discs

PIXEL_MM = 5 / 3
HU = {"air": -1000.0, "fat": -100.0, "fluid": 0.0, "brain": 35.0, "skull": 1200.0}


def _of_ct(values: dict[str, float]) -> dict[str, float]:
    """How a model of MR is shown Hounsfield units."""
    data = np.array(list(values.values()), np.float32).reshape(1, 1, 1, -1)
    units, _ = SourceIntensity().forward(data[0], "CT")
    kinds = {"source_is_ct": True, "target_is_ct": False}
    shown = nearer_contrast(torch.from_numpy(units)[None], PIXEL_MM, **kinds)
    assert shown.dtype == torch.float32 and shown.shape == data.shape
    return dict(zip(values, shown.flatten().tolist(), strict=True))


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_is_shown_as_it_is(kind):
    source = torch.rand(2, 1, 8, 8)
    assert nearer_contrast(source, PIXEL_MM, source_is_ct=kind, target_is_ct=kind) is source


def _of_mr(source: torch.Tensor) -> torch.Tensor:
    """How a model of CT is shown model units."""
    return nearer_contrast(source, PIXEL_MM, source_is_ct=False, target_is_ct=True)


def test_tissues_of_mr_come_close_and_none_of_them_near_air():
    source = torch.tensor([0.0, 0.05, 0.3, 0.6, 1.0])[None, None, None]
    air, bone, *tissues = _of_mr(source).flatten().tolist()
    assert air == 0 < bone
    assert tissues == sorted(tissues)
    assert tissues[-1] - tissues[0] < 0.3
    assert tissues[0] - bone > 0.25  # wider than in the source, where it is as much


def _head(fluid: float, size: int = 128, noise: float = 0.0) -> dict[str, torch.Tensor]:
    """A slice [size, size] of a head with a ventricle, and masks of what is in it. Its sinus opens
    into the face, and reaches as deep as the ventricle lies."""
    y, x = ((torch.arange(size) - (size - 1) / 2) * 128 / size for _ in range(2))
    y = y[:, None]
    radius = torch.hypot(x / 0.9, y)
    parts = {
        "ventricle": torch.hypot(x - 8, y - 16) < 6,
        "sinus": (torch.hypot(x + 8, y + 10) < 6) | ((x + 8).abs() < 3) & (y < -10) & (radius < 58),
        "grey": torch.hypot(x - 10, y + 8) < 5,
        "bone": (radius > 51) & (radius < 54),
        "outside": radius > 58,
    }
    image = torch.where(radius < 58, 0.5, 0.0)
    for name, value in (("bone", 0.1), ("ventricle", fluid), ("sinus", 0.02), ("grey", 0.35)):
        image[parts[name]] = value
    random = torch.Generator().manual_seed(0)
    if noise:
        image = torch.hypot(
            image + noise * torch.randn(size, size, generator=random),
            noise * torch.randn(size, size, generator=random),
        )
    return {"image": image} | parts


@pytest.mark.parametrize("fluid", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("size", [128, 96])
@pytest.mark.parametrize("noise", [0.0, 0.015])
def test_fluid_deep_in_the_head_is_shown_as_tissue_and_nothing_else_is(fluid, size, noise):
    made = _head(fluid, size, noise)
    pair = torch.stack([made["image"], made["image"].flip(0)])[:, None]
    kinds = {"source_is_ct": False, "target_is_ct": True}
    shown = nearer_contrast(pair, PIXEL_MM * 128 / size, **kinds)[0, 0]
    plain = 0.7 * torch.tanh(2.5 * made["image"])
    tissue = float(0.7 * torch.tanh(torch.tensor(2.5 * 0.5)))
    if fluid < 0.25:
        assert (shown[made["ventricle"]] - tissue).abs().max() < 0.05
    else:
        assert torch.equal(shown[made["ventricle"]], plain[made["ventricle"]])
    for name in ("sinus", "grey", "bone", "outside"):
        torch.testing.assert_close(shown[made[name]], plain[made[name]])


def test_a_sinus_that_opens_in_another_slice_stays_dark():
    whole, closed = _head(0.02), _head(0.02)
    shut = closed["sinus"] & (torch.arange(128)[:, None] < 48)
    closed["image"][shut] = 0.5
    stack = torch.stack([closed["image"], closed["image"], whole["image"]])[:, None]
    left = closed["sinus"] & ~shut
    assert _of_mr(stack)[0, 0][left].max() < 0.1
    assert _of_mr(stack.flip(0))[2, 0][left].max() < 0.1
    alone = _of_mr(stack[:1])[0, 0]  # which nothing tells from fluid
    assert alone[left].min() > 0.5
    assert _of_mr(stack)[0, 0][closed["ventricle"]].min() > 0.5


def test_where_the_field_of_view_ends_is_no_depth_whatever_pads_it():
    cut = _head(0.02)["image"][76:, :]  # through the ventricle, with bone along three sides
    padded = torch.nn.functional.pad(cut, (8, 8, 12, 4))
    kept = _of_mr(cut[None, None])[0, 0]
    torch.testing.assert_close(_of_mr(padded[None, None])[0, 0][12:-4, 8:-8], kept)
    torch.testing.assert_close(kept, 0.7 * torch.tanh(2.5 * cut))


def test_a_head_too_small_to_have_a_depth_is_shown_by_the_curve_alone():
    y, x = (torch.arange(64) - 31.5)[:, None], torch.arange(64) - 31.5
    small = torch.where(torch.hypot(x, y) < 12, 0.5, 0.0)
    small[30:33, 30:33] = 0.05
    torch.testing.assert_close(_of_mr(small[None, None])[0, 0], 0.7 * torch.tanh(2.5 * small))


def test_ct_has_bone_below_fluid_below_brain():
    shown = _of_ct(HU)
    assert shown["air"] == 0
    assert 0 < shown["skull"] < shown["fluid"] < shown["brain"]
    assert shown["brain"] - shown["fluid"] > 0.15  # a kernel's width
    assert shown["fat"] == pytest.approx(shown["brain"], abs=0.01)


def test_noise_of_a_ct_stays_below_a_kernels_width():
    shown = _of_ct({str(hu): float(hu) for hu in range(20, 61)})
    assert max(shown.values()) - min(shown.values()) < 0.25
    steepest = np.abs(np.diff(list(shown.values()))).max()
    assert 5 * steepest < 0.04  # 5 HU, a head scan's


def _volume(ct: bool) -> Volume:
    data = np.random.default_rng(0).uniform(0.2, 1.0, (2, 16, 16)).astype(np.float32)
    data[:, :4] = 0
    return Volume(3060 * data - 1000 if ct else data, np.eye(4), "CT" if ct else "T1")


@pytest.mark.parametrize("source_is_ct", [True, False])
@pytest.mark.parametrize("target_is_ct", [True, False])
def test_a_model_and_its_rivals_are_shown_the_same(card, denoiser, source_is_ct, target_is_ct):
    card = replace(card, pixel_mm=1.0)  # that of the volume
    if target_is_ct:
        card = replace(card, intensity=HounsfieldIntensity().to_dict())
    volume = _volume(source_is_ct)
    source = source_slices(volume, 16)
    shown = TranslationModel(card, denoiser).shown(source, source_is_ct)
    kinds = {"source_is_ct": source_is_ct, "target_is_ct": target_is_ct}
    torch.testing.assert_close(shown, nearer_contrast(source, 1.0, **kinds), rtol=0, atol=0)
    rivals = source_slices(volume, 16, "CT" if target_is_ct else "MR")
    torch.testing.assert_close(rivals, shown, rtol=0, atol=0)
    assert torch.equal(shown, source) == (source_is_ct == target_is_ct)


def test_maps_and_agreement_see_what_is_shown_and_the_rest_the_source(card, denoiser, monkeypatch):
    seen: dict[str, torch.Tensor] = {}

    def noted(name: str, place: int):
        real = getattr(model_module, name)

        def call(*arguments, **named):
            seen[name] = arguments[place].clone()
            return real(*arguments, **named)

        monkeypatch.setattr(model_module, name, call)

    for name, place in (("draw_samples", 2), ("agreement_slices", 0), ("local_fit", 1)):
        noted(name, place)
    card = replace(card, intensity=HounsfieldIntensity().to_dict())
    TranslationModel(card, denoiser).translate(_volume(ct=False), device="cpu", agreement=True)
    source = seen["local_fit"][:, None]
    assert source.max() > 0.3
    shown = _of_mr(source)
    torch.testing.assert_close(seen["draw_samples"], shown)
    torch.testing.assert_close(seen["agreement_slices"], shown)


NETWORK = {"channels": (8, 8)}
OWN = TrainingConfig({}, (), {"kind": "percentile"}, network=NETWORK, batch=2)


@pytest.mark.parametrize(
    ("method", "nearer"),
    [
        (lambda: Regressor(paired=False, size=16, network=NETWORK), True),
        (lambda: Regressor(paired=True, size=16, network=NETWORK), False),
        (lambda: FromScratch("own", OWN, size=16, evaluations=2), True),
        (lambda: FromScratch("own", OWN, size=16, evaluations=2, nearer=False), False),
        (lambda: Published(size=16, network=NETWORK), False),
    ],
    ids=["regressor", "paired", "own", "own, as it is", "published"],
)
def test_only_zero_shot_methods_of_our_own_training_are_shown_the_nearer(
    method, nearer, monkeypatch
):
    asked = []
    monkeypatch.setattr(slices, "nearer_contrast", lambda x, _, **kinds: asked.append(kinds) or x)
    subjects = [replace(subject, target_modality="CT") for subject in discs(2, side=16)]
    fitted = method()
    fitted.fit(subjects, Budget(steps=1))
    asked.clear()
    fitted.translate(subjects[0].source)
    assert asked == [{"source_is_ct": False, "target_is_ct": True}] * nearer
    if isinstance(fitted, FromScratch):
        asked.clear()
        fitted.sampled("another").translate(subjects[0].source)
        assert len(asked) == nearer
