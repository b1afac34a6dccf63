"""The steering benchmark: a model that obeys its maps, one that ignores them, and a real draw."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from midiffusion.diffusion.conditioning import LMICondition, LMISettings
from midiffusion.errors import InvalidParameter
from midiffusion.images.volume import Volume
from midiffusion_research import steering
from midiffusion_research.baselines.method import Budget
from midiffusion_research.baselines.scratch import FromScratch
from midiffusion_research.bootstrap import Interval
from midiffusion_research.datasets import Subject, tcga_lgg
from midiffusion_research.steering import (
    model_sources,
    share_lost,
    steering_figures,
    verdict,
)
from midiffusion_research.training.configuration import TrainingConfig

SIDE = 48


def _subjects(count=5, slices=3):
    """Blocky heads; the target is the source with its intensities turned over."""
    subjects = []
    for number in range(count):
        random = np.random.default_rng(number)
        head = np.zeros((slices, SIDE, SIDE), dtype=bool)
        head[:, 8:-8, 8:-8] = True
        blocks = random.random((slices, SIDE // 4, SIDE // 4)).repeat(4, 1).repeat(4, 2)
        source = np.where(head, 0.2 + 0.6 * blocks, 0).astype(np.float32)
        target = np.where(head, 1 - source, 0).astype(np.float32)
        volume = Volume(source, np.diag([-2.0, -2, 5, 1]))
        subjects.append(Subject(str(number), volume, target, head))
    return subjects


def _obedient(source, seed):
    """Inverts what it is given, and paints noise where it is given nothing."""
    if source.data.any():
        return np.where(source.data > 0, 1 - source.data, 0).astype(np.float32)
    return np.random.default_rng(seed).random(source.data.shape).astype(np.float32)


def _blind(source, seed):
    return np.random.default_rng(seed).random(source.data.shape).astype(np.float32)


def test_an_obedient_model_loses_its_gain_to_wrong_maps():
    figures = steering_figures(_obedient, _subjects())
    assert np.mean(figures["right"]) == pytest.approx(1)
    # The heads have their outline in common, which a swapped subject keeps.
    assert share_lost(figures, "swapped").low > 0.5
    assert share_lost(figures, "swapped").high < 1
    assert share_lost(figures, "blank").value == pytest.approx(1, abs=0.05)
    assert verdict(share_lost(figures, "swapped")).startswith("yes, by the lower end")


def test_a_model_that_ignores_its_maps_is_found_out():
    figures = steering_figures(_blind, _subjects())
    assert figures["right"] == figures["swapped"] == figures["blank"]
    # Whatever chance makes of the gain, none of it is lost.
    assert not share_lost(figures, "swapped").value > 0
    assert verdict(share_lost(figures, "swapped")) == "no"


def test_the_share_lost_is_of_the_gain():
    figures = {"right": [0.8, 0.6], "swapped": [0.5, 0.5], "unconditional": [0.2, 0.4]}
    assert share_lost(figures, "swapped").value == pytest.approx(0.2 / 0.4)
    none = {"right": [0.2], "swapped": [0.2], "unconditional": [0.3]}
    assert math.isnan(share_lost(none, "swapped").value)


@pytest.mark.parametrize(
    ("lost", "answer"),
    [
        (Interval(0.5, 0.5, 0.6), "yes, by the lower end"),
        (Interval(0.6, 0.4, 0.9), "yes by the estimate, not by the lower end"),
        (Interval(0.6, math.nan, math.nan), "yes by the estimate, not by the lower end"),
        (Interval(0.49, 0.3, 0.9), "no"),
        (Interval(math.nan, math.nan, math.nan), "no"),
    ],
)
def test_the_verdict_rests_on_swapped_maps_and_names_its_certainty(lost, answer):
    assert verdict(lost).startswith(answer)


def test_the_command_counts_blank_maps_as_no_evidence(monkeypatch, tmp_path, capsys):
    """A model that paints the same head, right or swapped, and noise where it has no maps: blank
    maps lose the whole gain, and still it is not steered."""

    def draw(source, seed):
        if source.data.any():
            return subjects[0].target
        return np.random.default_rng(seed).random(source.data.shape).astype(np.float32)

    subjects = [replace(_subjects(1)[0], id=str(number)) for number in range(3)]
    monkeypatch.setattr(steering, "trained", lambda *_: SimpleNamespace(draw=draw))
    monkeypatch.setattr(Subject, "at", lambda subject, size: subject)
    monkeypatch.setattr(steering, "model_sources", lambda loaded, _: loaded)
    monkeypatch.setattr(tcga_lgg, "load", lambda *_: subjects)
    out = tmp_path / "steering.json"
    assert steering.main(["--data", str(tmp_path), "--json", str(out)]) == 0
    assert "LMI steers: no." in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["share_lost"]["blank"]["value"] > 0.9
    assert report["steers"] is False and report["steers_by_lower_end"] is False


def test_one_subject_can_not_be_swapped():
    with pytest.raises(InvalidParameter, match="two subjects"):
        steering_figures(_obedient, _subjects(1))


def test_subjects_are_cut_at_the_same_relative_heights():
    short, long = _subjects(1, slices=9)[0], _subjects(1, slices=17)[0]
    cut = model_sources([short, long], slices=3)
    assert [len(s.target) for s in cut] == [3, 3]
    np.testing.assert_array_equal(cut[0].target, short.target[[2, 4, 6]])
    np.testing.assert_array_equal(cut[1].target, long.target[[4, 8, 12]])
    assert [len(s.target) for s in model_sources(_subjects(2, slices=1), slices=4)] == [1, 1]


@pytest.fixture(scope="module")
def learnt():
    """The published method after a step of training, whose output depends on its maps."""
    method = FromScratch("tiny", _config(), size=SIDE)
    method.fit(_subjects(1), Budget(steps=1))
    for parameter in method._trained().parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return method


def _config():
    return TrainingConfig(
        intensity={"kind": "percentile"},
        lmi={"dilations": [1], "bandwidths": [0.12], "cross_dilations": [1]},
        network={"channels": [8, 8], "embedding": 16},
    )


def test_an_empty_source_is_the_unconditional_model():
    settings = LMISettings(**_config().lmi)
    empty = LMICondition(torch.zeros(2, 1, 32, 32), settings)
    x = torch.randn(2, 1, 32, 32)
    for sigma in (0.02, 0.5, 5.0):
        torch.testing.assert_close(empty.channels(x, sigma), torch.zeros(2, 2, 32, 32))


def test_the_real_draw_follows_condition_and_seed(learnt):
    first, second = (s.source for s in model_sources(_subjects(2), slices=2))
    sample = learnt.draw(first, 0)
    assert sample.shape == first.data.shape and sample.dtype == np.float32
    np.testing.assert_array_equal(sample, learnt.draw(first, 0))
    assert np.abs(sample - learnt.draw(first, 1)).max() > 1e-3
    assert np.abs(sample - learnt.draw(second, 0)).max() > 1e-3


def test_the_real_draw_does_not_rescale_its_source(learnt):
    (subject,) = model_sources(_subjects(1), slices=1)
    darker = replace(subject.source, data=0.5 * subject.source.data)
    assert np.abs(learnt.draw(darker, 0) - learnt.draw(subject.source, 0)).max() > 1e-3
