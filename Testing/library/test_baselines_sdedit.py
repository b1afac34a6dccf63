"""SDEdit against a prior whose score is known: then what it does to a source is a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundles import TINY
from midiffusion.card import ModelCard
from midiffusion.evaluation.baselines import Budget, sdedit
from midiffusion.evaluation.baselines.diffusion import Sampling
from midiffusion.evaluation.baselines.sdedit import DEFAULT_LEVEL, LEVELS, SDEdit
from midiffusion.evaluation.datasets import Subject
from midiffusion.model import TranslationModel
from midiffusion.source import Source
from midiffusion.volume import Volume
from toys import gapsOfNoise

SIDE, PIXEL_MM = 64, 5.0
SPREAD = 0.1
SAMPLING = Sampling(steps=8, device="cpu")
# The maps of a blank condition are zero whatever they are; these are the fewest.
LMI = {"dilations": [1], "bandwidths": [0.1], "cross_dilations": [], "cross_bandwidths": []}
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
RADIUS = np.hypot(_ROWS, _COLUMNS)
HEAD = RADIUS < 28
# The same whichever way an axis runs.
PATTERN = np.where(HEAD, 0.45 + 0.2 * np.cos(RADIUS / 3), 0).astype(np.float32)


class GaussianPrior(torch.nn.Module):
    """D of independent pixels N(PATTERN, SPREAD^2): the posterior mean given x = x0 + sigma z."""

    sigma_data = 0.5

    def forward(self, x, sigma, channels):
        assert channels.shape[1] == 1 and not channels.any()  # the unconditional branch
        prior, noise = SPREAD**2, sigma**2
        return (prior * x + noise * torch.from_numpy(PATTERN)) / (prior + noise)


def _method(**changes):
    network = {**TINY["network"], "cond_channels": 1}
    card = ModelCard.from_dict({**TINY, "lmi": LMI, "network": network, "pixel_mm": PIXEL_MM})
    method = SDEdit(TranslationModel(card, GaussianPrior()), SAMPLING)
    vars(method).update(changes)
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
    units = Source.of(source).units
    inside = np.stack([HEAD] * 2)
    deviation = (units - PATTERN)[inside]
    left = (method.translate(source) - PATTERN)[inside]
    slope = np.polyfit(deviation, left, 1)[0]
    return abs(slope - SPREAD / np.hypot(SPREAD, level)) < 0.03


@pytest.mark.parametrize("level", [0.05, 0.1, 0.4])
def test_what_is_left_of_the_source(level):
    assert _keeps_the_right_share_of_the_source(_method(level=level), level)


def test_starting_from_noise_alone_fails_that_check():
    method = _method(level=0.1)
    method._source = lambda slices, grid: torch.zeros(2, 1, SIDE, SIDE)
    assert not _keeps_the_right_share_of_the_source(method, 0.1)


def test_noise_is_shared_as_far_as_slices_are_near(monkeypatch):
    gaps = gapsOfNoise(sdedit, monkeypatch)
    _method().translate(_subject(1).source)
    assert gaps == [6.0 / PIXEL_MM]


def test_the_level_is_chosen_on_the_training_pairs():
    faithful, free = _method(), _method()
    assert faithful.level == DEFAULT_LEVEL
    # Where the target is the source, or the mean of the prior, the best level is known.
    faithful.fit([_subject(0)], Budget(steps=1))
    free.fit([_subject(0, PATTERN)], Budget(steps=1))
    assert faithful.level == min(LEVELS) and faithful.name == "sdedit, noise level 0.05"
    assert free.level >= 1.6


def test_without_pairs_the_level_is_the_named_one():
    method = _method()
    method.fit([], Budget(steps=1))
    assert method.level == DEFAULT_LEVEL
