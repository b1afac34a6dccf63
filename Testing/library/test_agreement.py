"""The agreement of a result with its source, against its definition and against what is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from midiffusion import batching
from midiffusion.agreement import agreement_slices
from midiffusion.card import ModelCard
from midiffusion.conditioning import LMISettings
from midiffusion.denoiser import Denoiser
from midiffusion.errors import Cancelled
from midiffusion.grid import SliceGrid
from midiffusion.intensity import SourceIntensity, head_mask
from midiffusion.io import read_volume
from midiffusion.model import TranslationModel
from midiffusion.network import UNet, UNetConfig
from midiffusion.sampling import Progress
from midiffusion.volume import Volume
from torch import Tensor

SETTINGS = LMISettings(dilations=(1, 2), bandwidths=(0.04, 0.12))


def median(source: Tensor, result: Tensor, mask: Tensor, settings: LMISettings = SETTINGS) -> float:
    return float(agreement_slices(source, result, settings)[mask].median())


def phantom(seed: int, slices: int = 2, size: int = 64) -> Tensor:
    """Smooth random structures in [0, 1], another for each seed: [S, 1, H, W]."""
    noise = torch.randn(slices, 1, size, size, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    smooth = torch.nn.functional.avg_pool2d(smooth, 3, 1, 1)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


EVERYWHERE = torch.ones(2, 1, 64, 64, dtype=torch.bool)


@pytest.mark.parametrize(
    ("name", "least"), [("itself", 0.99), ("inverted", 0.99), ("half the contrast", 0.6)]
)
def test_contrast_does_not_matter(name: str, least: float):
    source = phantom(0)
    result = {"itself": source, "inverted": 1 - source, "half the contrast": 0.3 + 0.5 * source}
    assert median(source, result[name], EVERYWHERE) > least


@pytest.mark.parametrize("name", ["shifted", "another subject", "noise", "flat"])
def test_what_is_unrelated_does_not_agree(name: str):
    source = phantom(0)
    unrelated = {
        "shifted": torch.roll(1 - source, 6, -1),
        "another subject": 1 - phantom(1),
        "noise": 0.5 + 0.3 * torch.randn(source.shape, generator=torch.Generator().manual_seed(2)),
        "flat": torch.full_like(source, 0.5),
    }
    assert median(source, unrelated[name], EVERYWHERE) < 0.1


def test_where_there_is_nothing_there_is_no_agreement():
    nothing = torch.zeros(1, 1, 32, 32)
    found = agreement_slices(nothing, nothing, SETTINGS)
    assert not found.any()
    assert found.isfinite().all()


def test_a_local_flaw_shows_where_it_is():
    source = phantom(0)
    result = 1 - source
    result[:, :, 20:40, 20:40] = phantom(5)[:, :, 20:40, 20:40]
    found = agreement_slices(source, result, SETTINGS)
    assert found[:, :, 26:34, 26:34].mean() < 0.25
    assert found[:, :, 50:, 50:].mean() > 0.9


def test_range_and_batches(monkeypatch: pytest.MonkeyPatch):
    source, result = phantom(0, 5, 32), phantom(3, 5, 32)
    whole = agreement_slices(source, result, SETTINGS)
    assert whole.shape == source.shape
    assert whole.min() >= 0 and whole.max() <= 1
    monkeypatch.setattr(batching, "_CPU_BATCH", 2)
    done: list[int] = []
    parts = agreement_slices(source, result, SETTINGS, done.append)
    assert done == [2, 4, 5]
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def information(u: np.ndarray, v: np.ndarray, y: int, x: int, step: int, h: float) -> float:
    """LMI of the 3 x 3 patches at (y, x), straight from the definition; nats."""
    offsets = [(a * step, b * step) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    p = [u[y + a, x + b] for a, b in offsets]
    q = [v[y + a, x + b] for a, b in offsets]

    def entropy(*signals: list[float]) -> float:
        total = 0.0
        for i in range(9):
            density = 0.0
            for j in range(9):
                d2 = sum((s[i] - s[j]) ** 2 for s in signals)
                density += math.exp(-d2 / (2 * h * h)) / 9
            total -= math.log(density) / 9
        return total

    return entropy(p) + entropy(q) - entropy(p, q)


def test_one_pixel_by_the_definition():
    source, result = phantom(0, 1, 48), 0.5 * phantom(0, 1, 48) + 0.5 * phantom(1, 1, 48)
    settings = LMISettings(dilations=(1, 2), bandwidths=(0.1,))
    found = float(agreement_slices(source, result, settings)[0, 0, 24, 20])
    s, r = (t[0, 0].double().numpy() for t in (source, result))
    moved = [np.roll(r, (step, step), (0, 1)) for step in (4, -4)]  # 2 * dilation 2 * radius 1
    shared = most = 0.0
    for y in range(22, 27):
        for x in range(18, 23):

            def total(a: np.ndarray, b: np.ndarray, y: int = y, x: int = x) -> float:
                return sum(information(a, b, y, x, step, 0.1) for step in (1, 2))

            chance = (total(s, moved[0]) + total(s, moved[1])) / 2
            shared += total(s, r) - chance
            most += math.sqrt(total(s, s) * total(r, r)) - chance
    assert 0.05 < shared / most < 0.95  # a value that could be wrong
    assert found == pytest.approx(shared / most, abs=2e-3)


def test_real_heads(root: Path):
    """A T1 against its inverse, the FLAIR of the same head, and that of other places in it."""
    images = []
    for name in ("T1W", "FLAIR"):
        volume = read_volume(root / "Resources" / "SampleData" / f"openms_long19_{name}.nii.gz")
        units, _ = SourceIntensity().forward(volume.data)
        slices = SliceGrid.of(volume, 3.0, "axial", 8).to_slices(units)[[20, 30]]
        images.append(torch.from_numpy(slices).clamp_(min=0)[:, None])
    t1, flair = images
    head = torch.from_numpy(head_mask(t1.numpy()))
    inverted = 1 - t1.clamp(max=1)
    same, real = median(t1, inverted, head), median(t1, flair, head)
    elsewhere = median(t1, torch.roll(inverted, 4, -1), head)
    other = median(t1, flair.flip(0), head)
    assert same > 0.95
    assert real > 2 * other
    assert same > 4 * max(elsewhere, other)


@pytest.fixture
def model(card_values: dict[str, Any]) -> TranslationModel:
    network = UNetConfig(cond_channels=SETTINGS.channels, channels=(8, 8), embedding=16)
    changes = {
        "pixel_mm": 3.0,
        "lmi": asdict(SETTINGS),
        "network": asdict(network),
        "default_steps": 1,
        "default_sampler": "dpmpp_2m",
    }
    torch.manual_seed(0)
    return TranslationModel(
        ModelCard(**{**card_values, **changes}), Denoiser(UNet(network), sigma_data=0.5)
    )


@pytest.fixture
def volume() -> Volume:
    """Structures in a ball, on a left-handed grid of other pixels than the model's."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (4, 50, 46)), indexing="ij")
    structures = torch.nn.functional.interpolate(phantom(0, 4), (50, 46))[:, 0].numpy()
    inside = (k / 2) ** 2 + j**2 + i**2 < 0.8
    data = np.where(inside, 200 + 800 * structures, 0).astype(np.float32)
    return Volume(data, np.diag([-4.0, 4.0, 5.0, 1.0]), "MR")


def give(model: TranslationModel, volume: Volume, result: Callable[[Tensor], Tensor]) -> None:
    """Lets the network's estimate, and so the translation, be `result` of the source's slices."""
    grid = SliceGrid.of(volume, 3.0, "axial", 2)
    units, _ = SourceIntensity().forward(volume.data, "MR")
    estimate = result(torch.from_numpy(grid.to_slices(units)).clamp_(min=0)[:, None])
    model.denoiser.forward = lambda x, sigma, channels: estimate  # type: ignore[method-assign]


def test_a_translation_tells_its_agreement(model: TranslationModel, volume: Volume):
    give(model, volume, lambda source: 1 - source.clamp(max=1))
    translation = model.translate(volume, device="cpu", agreement=True)
    found = translation.agreement
    assert found is not None
    assert found.data.shape == volume.data.shape and found.data.dtype == np.float32
    np.testing.assert_array_equal(found.ijkToRAS, volume.ijkToRAS)
    assert found.data.min() >= 0 and found.data.max() <= 1
    told = json.loads(json.dumps(translation.provenance))["agreement"]
    assert told == pytest.approx(np.median(found.data[volume.data > 0]), abs=2e-3)
    assert told > 0.9  # inverted, but in its place
    give(model, volume, lambda source: torch.roll(1 - source.clamp(max=1), 6, -1))
    elsewhere = model.translate(volume, device="cpu", agreement=True).provenance["agreement"]
    assert elsewhere < told / 4


def test_the_map_lies_where_the_source_lies(model: TranslationModel, volume: Volume):
    """A flaw of the result at some voxels shows at those voxels, whatever way the axes run."""
    grid = SliceGrid.of(volume, 3.0, "axial", 2)
    where = np.zeros(volume.data.shape, np.float32)
    where[1, 12:24, 26:38] = 1
    flaw = torch.from_numpy(grid.to_slices(where))[:, None].clamp(0, 1)
    other = phantom(7, 4, 80)[..., : flaw.shape[2], : flaw.shape[3]]
    give(model, volume, lambda source: (1 - flaw) * source + flaw * other)
    translation = model.translate(volume, device="cpu", agreement=True)
    assert translation.agreement is not None
    found = translation.agreement.data
    assert found[1, 15:21, 29:35].mean() < 0.4
    assert found[2, 15:21, 29:35].mean() > 0.9
    assert found[1, 27:35, 12:22].mean() > 0.9


def test_nobody_who_does_not_ask_pays_for_it(model: TranslationModel, volume: Volume):
    translation = model.translate(volume, device="cpu")
    assert translation.agreement is None
    assert "agreement" not in translation.provenance


def test_it_gives_signs_of_life_and_can_be_ended(model: TranslationModel, volume: Volume):
    seen: list[Progress] = []
    model.translate(volume, device="cpu", agreement=True, on_step=seen.append)
    last = seen[-1]
    assert (last.step, last.slices_done, last.preview) == (last.of, last.slices, None)
    assert sum((p.step, p.slices_done) == (p.of, p.slices) for p in seen) == 2

    def end(progress: Progress) -> None:
        if progress.slices_done == progress.slices and progress.preview is None:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        model.translate(volume, device="cpu", agreement=True, on_step=end)
