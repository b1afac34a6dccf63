"""The agreement of a result with its source, against its definition and against what is known."""

from __future__ import annotations

import pytest
import torch
from midiffusion.diffusion.conditioning import LMISettings
from midiffusion.pipeline.agreement import agreement_slices
from midiffusion.runtime import batching
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
