"""The uncertainty benchmark against samples whose spread is exactly right, and unrelated to the
error; the figures against scipy's and the normal law's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume
from midiffusion_research import uncertainty
from midiffusion_research.cli import main
from midiffusion_research.datasets import Subject
from midiffusion_research.uncertainty import (
    DEVIATION,
    GROUPS,
    SCALES,
    Doubt,
    curve,
    rank_correlation,
    ranks_by_subject,
    reliability,
    subject_reliability,
    verdict,
)
from scipy import stats

SAMPLES = 4
ERROR_MAP = "error map"


def _subject(number, related=True, gain=1.0):
    """A head in which the noise of every voxel has its own size. The real image and the samples
    are draws of one law, so the spread of the samples is exactly right; or it is that of voxels
    elsewhere. gain: by how much the model is too dark."""
    random = np.random.default_rng(number)
    shape = (3, 48, 48)
    truth = 1 + random.random(shape)
    size = np.exp(random.uniform(np.log(0.02), np.log(0.4), shape))
    target = truth + size * random.standard_normal(shape)
    samples = truth + size * random.standard_normal((SAMPLES, *shape))
    samples /= gain
    deviation = samples.std(axis=0, ddof=1)
    if not related:
        deviation = random.permutation(deviation.ravel()).reshape(shape)
    head = np.zeros(shape, dtype=bool)
    head[:, 4:-4, 4:-4] = True
    source = Volume(truth.astype(np.float32), np.diag([-2.0, -2, 5, 1]))
    subject = Subject(str(number), source, target.astype(np.float32), head)
    return Doubt(samples.mean(axis=0), deviation, size / gain), subject


def _figures(**how):
    pairs = [_subject(number, **how) for number in range(4)]
    return {subject.id: subject_reliability(doubt, subject) for doubt, subject in pairs}


def test_rank_correlation_is_scipys_ties_included():
    random = np.random.default_rng(0)
    first = random.integers(0, 9, 500)
    second = first + random.integers(0, 12, 500)
    expected = stats.spearmanr(first, second).statistic
    assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(rank_correlation(np.ones(9), np.arange(9)))


def test_groups_hold_equal_shares_in_the_order_of_the_predictor():
    doubt = np.random.default_rng(0).permutation(100) / 100.0
    found = reliability(doubt, -2 * doubt)
    tenths = np.arange(100).reshape(GROUPS, 10) / 100
    assert found.predicted_square == pytest.approx((tenths**2).mean(axis=1))
    assert found.error_square == pytest.approx((4 * tenths**2).mean(axis=1))
    assert found.rank == pytest.approx(1)
    with pytest.raises(InvalidData, match="too few"):
        reliability(doubt[:9], doubt[:9])


def test_a_spread_that_is_right_is_found_reliable():
    figures = _figures()
    rank = np.mean(ranks_by_subject(figures, SCALES[0], DEVIATION))
    assert 0.4 < rank < 0.75  # not 1: an error is one draw, whatever its law's width
    # Where the deviation of four samples is least it is too small, where it is greatest too great:
    # only over all groups does the square of the error equal that of the prediction.
    rows = [found[SCALES[0]][DEVIATION] for found in figures.values()]
    predicted = np.mean([r.predicted_square for r in rows]) * (1 + 1 / SAMPLES)
    assert np.mean([r.error_square for r in rows]) == pytest.approx(predicted, rel=0.1)
    errors = [group[1].value for group in curve(figures, SCALES[0], DEVIATION, SAMPLES)]
    assert errors == sorted(errors)
    assert verdict(figures)[0]


def test_the_curve_is_one_for_a_known_width():
    """With the width itself as the deviation (as of infinitely many samples) every group is right,
    and its error the root mean square of the normal law."""
    doubt, subject = _subject(0)
    size = doubt.error_map
    random = np.random.default_rng(1)
    target = doubt.mean + size * random.standard_normal(size.shape)
    exact = Subject("a", subject.source, target.astype(np.float32), subject.head)
    found = {"a": subject_reliability(Doubt(doubt.mean, size, doubt.error_map), exact)}
    rows = curve(found, SCALES[0], DEVIATION, 10**6)
    assert [row[2].value for row in rows] == pytest.approx([1] * GROUPS, rel=0.12)
    assert [row[1].value for row in rows] == pytest.approx([row[0] for row in rows], rel=0.12)


def test_an_unrelated_spread_is_not_called_uncertainty():
    figures = _figures(related=False)
    assert abs(np.mean(ranks_by_subject(figures, SCALES[0], DEVIATION))) < 0.05
    named, sentence = verdict(figures)
    assert not named
    assert "not to be called uncertainty" in sentence
    errors = [group[1].value for group in curve(figures, SCALES[0], DEVIATION, SAMPLES)]
    assert max(errors) < 1.2 * min(errors)
    assert np.mean(ranks_by_subject(figures, SCALES[0], ERROR_MAP)) > 0.4


def test_a_wrong_gain_drowns_the_spread_until_it_is_taken_out():
    figures = _figures(gain=2.0)
    as_it_is, gained = (np.mean(ranks_by_subject(figures, s, DEVIATION)) for s in SCALES)
    assert gained > 0.4
    assert as_it_is < 0.15
    assert not verdict(figures)[0]  # both are asked for
    plain = _figures()
    for name in (DEVIATION, ERROR_MAP):
        again = [row[1].value for row in curve(figures, SCALES[1], name, SAMPLES)]
        same = [row[1].value for row in curve(plain, SCALES[1], name, SAMPLES)]
        assert again == pytest.approx(same, rel=0.02)


def test_the_command_reports_what_it_measured(tmp_path, monkeypatch, capsys):
    pairs = [_subject(number) for number in range(3)]
    doubts = {id(subject.source): doubt for doubt, subject in pairs}
    provenance = dict.fromkeys(
        ("model", "weightsSHA256", "steps", "samples", "sampler", "seed"), "as it was"
    )
    data = SimpleNamespace(
        name="toy",
        directions=("ct:mr",),
        bundles={"mr": "t1"},
        load=lambda root, direction, split, most: [subject for _, subject in pairs][:most],
    )
    saveTiny(tmp_path / "models" / "t1", id="t1")
    monkeypatch.setattr("midiffusion_research.run.dataset", lambda name: data)
    models = []

    def translator(model, **how):
        models.append(model.card.id)
        return lambda source: (doubts[id(source)], provenance)

    monkeypatch.setattr(uncertainty, "_translator", translator)
    file = tmp_path / "found.json"
    call = ["uncertainty", "--data", "x", "--device", "cpu", "--json", str(file)]
    call += ["--model-folder", str(tmp_path / "models")]
    assert main([*call, "--samples", "4", "--subjects", "2"]) == 0
    shown = capsys.readouterr().out
    assert "may be called uncertainty" in shown
    assert models == ["t1"]  # the bundle that serves this target of the collection
    report = json.loads(file.read_text())
    assert set(report["subjects"]) == {"0", "1"}
    expected = np.mean([report["subjects"][s][SCALES[0]][DEVIATION]["rank"] for s in "01"])
    assert report["rank_correlation"][SCALES[0]][DEVIATION]["value"] == pytest.approx(expected)
    assert report["may_be_called_uncertainty"] is True
    assert main([*call, "--samples", "1"]) == 1
    assert "at least 2" in capsys.readouterr().err
    assert main([*call, "--subjects", "0"]) == 1
    assert "error: --subjects must be at least 1." in capsys.readouterr().err
