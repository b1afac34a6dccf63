"""The one-pass regressors on a toy whose right answer is an intensity map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume
from midiffusion_research.baselines import Budget, Identity
from midiffusion_research.baselines.learning import learn
from midiffusion_research.baselines.regressor import Regressor
from midiffusion_research.datasets import Subject
from midiffusion_research.training.augmentation import RandomContrast
from toys import SIDE, discs, error, strangers

STEPS = 150
NETWORK = {"channels": (16, 24)}


@pytest.fixture(scope="module")
def paired():
    method = Regressor(paired=True, size=SIDE, network=NETWORK)
    method.fit(discs(16), Budget(steps=STEPS))
    return method


def test_the_paired_regressor_learns_the_map(paired):
    unseen = discs(6, first=100)
    assert paired.steps == STEPS
    assert error(paired, unseen) < 0.65 * error(Identity(), unseen)


def test_wrong_pairs_teach_nothing_of_the_kind(paired):
    broken = Regressor(paired=True, size=SIDE, network=NETWORK)
    broken.fit(strangers(discs(16)), Budget(steps=STEPS))
    unseen = discs(6, first=100)
    assert error(broken, unseen) > 1.3 * error(paired, unseen)


def test_the_zero_shot_regressor_never_looks_at_a_source():
    train = discs(4)
    others = [Subject(s.id, Volume(s.source.data * 0, np.eye(4)), s.target, s.head) for s in train]
    outputs = []
    for subjects in (train, others):
        method = Regressor(paired=False, size=SIDE, network={"channels": (8, 8)})
        method.fit(subjects, Budget(steps=3))
        assert method.name == "regressor"
        outputs.append(method.translate(train[0].source))
    np.testing.assert_array_equal(*outputs)


def _flat(count, first=0):
    """Heads of one tissue as the target shows them, of several in the source."""
    return [
        Subject(s.id, s.source, np.where(s.head, np.float32(0.8), 0), s.head)
        for s in discs(count, first)
    ]


def test_the_zero_shot_regressor_makes_the_target_of_a_contrast_it_never_saw(monkeypatch):
    """Where the contrast is not randomised it learns to leave an image as it is."""

    def error(method):
        errors = [np.abs(method.translate(s.source) - s.target)[s.head].mean() for s in unseen]
        return np.mean(errors)

    def learnt():
        method = Regressor(paired=False, size=SIDE, network=NETWORK)
        method.fit(_flat(16), Budget(steps=60))
        return error(method)

    unseen = _flat(6, first=100)
    enough = 0.65 * error(Identity())
    assert learnt() < enough
    monkeypatch.setattr(RandomContrast, "apply", lambda self, images, drawn: images)
    assert learnt() > enough


def test_a_network_on_fewer_pixels_gives_back_the_grid_it_was_given():
    method = Regressor(paired=True, size=16, network={"channels": (8, 8)})
    method.fit(discs(2), Budget(steps=1))
    output = method.translate(discs(1)[0].source)
    assert output.shape == (1, SIDE, SIDE) and output.dtype == np.float32


@pytest.mark.parametrize(("steps", "rise"), [(1000, 50), (40, 4)])
def test_the_rate_rises_in_50_steps_or_a_tenth_of_the_budget_and_then_falls(steps, rise):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    rates = []
    taken = learn(
        "x", lambda: rates.append(optimiser.param_groups[0]["lr"]), [optimiser], Budget(steps=steps)
    )
    assert taken == steps and rates[-1] <= 2.0 * 1.1 / steps
    assert abs(int(np.argmax(rates)) - rise) <= 1 and max(rates) > 0.85 * 2.0
    assert (np.diff(rates[rise + 1 :]) < 0).all()


def test_no_subjects_no_training():
    with pytest.raises(InvalidData, match="'paired' needs training subjects"):
        Regressor(paired=True).fit([], Budget(steps=1))
