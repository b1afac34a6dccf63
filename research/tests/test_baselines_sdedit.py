"""SDEdit against a prior whose score is known: then what it does to a source is a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.network import UNet, UNetConfig
from midiffusion.images.volume import Volume
from midiffusion_research.baselines import Budget, sdedit
from midiffusion_research.baselines.scratch import FromScratch
from midiffusion_research.baselines.sdedit import DEFAULT_LEVEL, LEVELS, SDEdit
from midiffusion_research.baselines.slices import source_units
from midiffusion_research.datasets import Subject
from toys import gapsOfNoise

SIDE, PIXEL_MM = 64, 5.0
SPREAD = 0.1
NETWORK = {"channels": (8, 8), "embedding": 16}
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
RADIUS = np.hypot(_ROWS, _COLUMNS)
HEAD = RADIUS < 28
# The same whichever way an axis runs.
PATTERN = np.where(HEAD, 0.45 + 0.2 * np.cos(RADIUS / 3), 0).astype(np.float32)


class GaussianPrior(Denoiser):
    """D of independent pixels N(PATTERN, SPREAD^2): the posterior mean given x = x0 + sigma z."""

    def __init__(self):
        super().__init__(UNet(UNetConfig(cond_channels=1, **NETWORK)), 0.5)

    def forward(self, x, sigma, channels):
        assert not channels.any()  # no condition
        prior, noise = SPREAD**2, sigma**2
        return (prior * x + noise * torch.from_numpy(PATTERN)) / (prior + noise)


class _Average:
    average = GaussianPrior()


def _method(**changes):
    """As if `fit` had learnt the prior."""
    method = SDEdit(size=SIDE, network=NETWORK)
    vars(method).update({"_average": _Average(), **changes})
    return method


def _subject(seed, target=None):
    random = np.random.default_rng(seed)
    data = np.where(HEAD, random.uniform(0.2, 1.0, (2, SIDE, SIDE)), 0).astype(np.float32)
    volume = Volume(data, np.diag([-PIXEL_MM, -PIXEL_MM, 6.0, 1.0]), "T1")
    target = data if target is None else np.stack([target] * 2)
    return Subject(str(seed), volume, target, np.stack([HEAD] * 2))


def _keeps_the_right_share_of_the_source(method, level):
    """The flow of the prior's marginals shrinks every distance from the mean by the same factor,
    so of the source's deviation the share SPREAD / sqrt(SPREAD^2 + level^2) is left."""
    source = _subject(1).source
    units, _ = source_units(source)
    inside = np.stack([HEAD] * 2)
    deviation = (units - PATTERN)[inside]
    left = (method.translate(source) - PATTERN)[inside]
    slope = np.polyfit(deviation, left, 1)[0]
    return abs(slope - SPREAD / np.hypot(SPREAD, level)) < 0.03


@pytest.mark.parametrize("level", [0.05, 0.1, 0.4])
def test_what_is_left_of_the_source(level):
    assert _keeps_the_right_share_of_the_source(_method(level=level), level)


def test_starting_from_noise_alone_fails_that_check(monkeypatch):
    method = _method(level=0.1)
    monkeypatch.setattr(sdedit, "source_slices", lambda *_: torch.zeros(2, 1, SIDE, SIDE))
    assert not _keeps_the_right_share_of_the_source(method, 0.1)


def test_noise_is_shared_as_far_as_slices_are_near(monkeypatch):
    gaps = gapsOfNoise(sdedit, monkeypatch)
    _method().translate(_subject(1).source)
    assert gaps == [6.0 / PIXEL_MM]


def test_the_level_is_chosen_on_the_training_pairs(monkeypatch):
    monkeypatch.setattr(FromScratch, "fit", lambda *_: None)  # the prior is known
    faithful, free = _method(), _method()
    assert faithful.level == DEFAULT_LEVEL
    # Where the target is the source, or the mean of the prior, the best level is known.
    faithful.fit([_subject(0)], Budget(steps=1))
    free.fit([_subject(0, PATTERN)], Budget(steps=1))
    assert faithful.level == min(LEVELS) and faithful.name == "sdedit, noise level 0.05"
    assert free.level >= 1.6


def test_the_prior_is_learnt_without_any_condition(monkeypatch):
    seen = []

    method = SDEdit(size=SIDE, network=NETWORK)
    forward = Denoiser.forward

    def noted(self, x, sigma, channels):
        seen.append(float(channels.abs().max()))
        return forward(self, x, sigma, channels)

    monkeypatch.setattr(Denoiser, "forward", noted)
    method.fit([_subject(0)], Budget(steps=2))
    assert method.steps == 2 and seen and max(seen) == 0
    assert method.translate(_subject(1).source).shape == (2, SIDE, SIDE)


def test_translating_before_learning_is_an_error():
    with pytest.raises(RuntimeError, match="fit"):
        SDEdit(size=SIDE, network=NETWORK).translate(_subject(0).source)
