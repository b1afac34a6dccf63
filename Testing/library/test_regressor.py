"""The one-pass regressors on a toy whose right answer is an intensity map."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.errors import InvalidData
from midiffusion.evaluation.baselines import Budget, Identity
from midiffusion.evaluation.baselines.regressor import Regressor
from midiffusion.evaluation.datasets import Subject
from midiffusion.volume import Volume

SIDE = 32
STEPS = 150
NETWORK = {"channels": (16, 24)}


def _subjects(count, first=0):
    """Discs of three tissues; the target is the source's contrast turned over inside the head."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    subjects = []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        head = (rows - 16) ** 2 + (columns - 16) ** 2 < 13**2
        source = np.where(head, 0.3, 0.0)
        for level in (0.6, 0.9, 0.6, 0.9):
            centre, radius = random.uniform(9, 23, 2), random.uniform(2, 5)
            disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
            source[disc & head] = level
        target = np.where(head, 1.1 - source, 0).astype(np.float32)
        volume = Volume(source[None].astype(np.float32), np.diag([-6.0, -6, 6, 1]), "T1")
        subjects.append(Subject(str(number), volume, target[None], head[None]))
    return subjects


def _error(method, subjects):
    """Mean absolute error in the discs, which nothing but the map explains."""
    errors = [
        np.abs(method.translate(s.source) - s.target)[s.source.data > 0.5].mean() for s in subjects
    ]
    return np.mean(errors)


@pytest.fixture(scope="module")
def paired():
    method = Regressor(paired=True, size=SIDE, network=NETWORK)
    method.fit(_subjects(16), Budget(steps=STEPS))
    return method


def test_the_paired_regressor_learns_the_map(paired):
    unseen = _subjects(6, first=100)
    assert paired.steps == STEPS
    assert _error(paired, unseen) < 0.65 * _error(Identity(), unseen)


def test_wrong_pairs_teach_nothing_of_the_kind(paired):
    train = _subjects(16)
    shuffled = [
        Subject(a.id, a.source, b.target, b.head)
        for a, b in zip(train, [*train[1:], train[0]], strict=True)
    ]
    broken = Regressor(paired=True, size=SIDE, network=NETWORK)
    broken.fit(shuffled, Budget(steps=STEPS))
    unseen = _subjects(6, first=100)
    assert _error(broken, unseen) > 1.3 * _error(paired, unseen)


def test_the_zero_shot_regressor_never_looks_at_a_source():
    train = _subjects(4)
    others = [Subject(s.id, Volume(s.source.data * 0, np.eye(4)), s.target, s.head) for s in train]
    outputs = []
    for subjects in (train, others):
        method = Regressor(paired=False, size=SIDE, network={"channels": (8, 8)})
        method.fit(subjects, Budget(steps=3))
        assert method.name == "regressor"
        outputs.append(method.translate(train[0].source))
    np.testing.assert_array_equal(*outputs)


def test_a_network_on_fewer_pixels_gives_back_the_grid_it_was_given():
    method = Regressor(paired=True, size=16, network={"channels": (8, 8)})
    method.fit(_subjects(2), Budget(steps=1))
    output = method.translate(_subjects(1)[0].source)
    assert output.shape == (1, SIDE, SIDE) and output.dtype == np.float32


def test_no_subjects_no_training():
    with pytest.raises(InvalidData, match="'paired' needs training subjects"):
        Regressor(paired=True).fit([], Budget(steps=1))
