"""The published recipe: its two maps against the estimator on the state that it was made for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume
from midiffusion_research.baselines import Budget, scratch
from midiffusion_research.baselines.published import Published, PublishedCondition
from midiffusion_research.datasets import Subject
from midiffusion_research.published_lmi import published_lmi
from toys import gapsOfNoise

SIDE = 8


def test_the_maps_are_those_of_the_source_and_of_the_variance_preserving_state():
    random = torch.Generator().manual_seed(0)
    source = torch.rand(2, 1, SIDE, SIDE, generator=random)
    clean, noise = torch.rand(2, 2, 1, SIDE, SIDE, generator=random)
    kept = torch.tensor([0.9, 0.2])[:, None, None, None]  # alpha bar of DDPM, one per image
    preserving = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    sigma = ((1 - kept) / kept).sqrt()
    channels = PublishedCondition(source).channels(clean + sigma * noise, sigma.flatten())
    torch.testing.assert_close(channels[:, :1], published_lmi(source, source))
    # Intensities are cut to whole grey levels: rounding may move a pixel by one of them.
    expected = published_lmi(source, preserving)
    assert (channels[:, 1:] - expected).abs().median() < 1e-5
    assert (channels[:, 1:] - expected).abs().max() < 0.05


def test_some_of_the_slices_have_the_maps_they_have_among_all():
    random = torch.Generator().manual_seed(1)
    source, state = torch.rand(2, 3, 1, SIDE, SIDE, generator=random)
    whole = PublishedCondition(source)
    part = whole.select(slice(1, 3)).channels(state[1:], 0.5)
    torch.testing.assert_close(part, whole.channels(state, 0.5)[1:])


def _squares(count, first=0):
    """One square each, bright in the target and half as bright in the source."""
    subjects = []
    for number in range(first, first + count):
        top, left = np.random.default_rng(number).integers(1, 5, 2)
        target = np.zeros((1, SIDE, SIDE), np.float32)
        target[0, top : top + 3, left : left + 3] = 0.8
        volume = Volume(0.5 * target, np.diag([-6.0, -6, 6, 1]), "T1")
        subjects.append(Subject(str(number), volume, target, target > 0))
    return subjects


@pytest.fixture(scope="module")
def trained():
    """In few steps, therefore long ones."""
    method = Published(size=SIDE, network={"channels": (16, 16)})
    method._config = replace(method._config, learning_rate=4e-3)
    method.fit(_squares(64), Budget(steps=80))
    return method


def _knows_the_squares(method):
    """Whether what it makes of a source is nearer to its own target than to others'."""
    subjects = _squares(4, first=100)
    outputs = [method.translate(subject.source) for subject in subjects]
    errors = np.array([[np.abs(o - s.target).mean() for s in subjects] for o in outputs])
    own = np.trace(errors)
    return own / 4 < 0.9 * (errors.sum() - own) / 12


def test_the_maps_alone_say_where_a_square_is(trained):
    assert _knows_the_squares(trained)


def test_without_the_maps_it_cannot_know(trained, monkeypatch):
    maps = PublishedCondition.channels
    monkeypatch.setattr(PublishedCondition, "channels", lambda self, *state: 0 * maps(self, *state))
    assert not _knows_the_squares(trained)


def test_a_step_is_cut_as_in_our_own_training(monkeypatch):
    """However large the loss: the norm of the gradient that the optimiser is given is 1."""
    given = []

    class Adam(torch.optim.Adam):
        def step(self):
            gradients = [w.grad.flatten() for g in self.param_groups for w in g["params"]]
            given.append(float(torch.cat(gradients).norm()))
            super().step()

    class Loud(Published):
        def _loss(self, *arguments):
            return 1e4 * super()._loss(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    Loud(size=SIDE, network={"channels": (8, 8)}).fit(_squares(4), Budget(steps=3))
    assert given == pytest.approx([1, 1, 1], rel=1e-4)


def test_noise_is_shared_as_far_as_slices_are_near(trained, monkeypatch):
    gaps = gapsOfNoise(scratch, monkeypatch)
    data = np.repeat(_squares(1)[0].source.data, 2, axis=0)
    trained.translate(Volume(data, np.diag([-6.0, -6, 9, 1]), "T1"))
    assert gaps == [1.5]  # in pixels of the learner


def test_no_subjects_no_training_and_no_translation_before():
    method = Published(size=SIDE, network={"channels": (8, 8)})
    with pytest.raises(InvalidData, match="'published, 50 of 1000 steps' needs training subjects"):
        method.fit([], Budget(steps=1))
    with pytest.raises(RuntimeError, match="fit"):
        method.translate(_squares(1)[0].source)
