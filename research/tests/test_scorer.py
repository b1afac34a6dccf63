"""The scorer and the plain baselines, on subjects whose figures are known."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.intensity import intensity_map
from midiffusion.images.volume import Volume
from midiffusion.pipeline.options import TranslationOptions
from midiffusion_research.baselines import Budget, HistogramMatching, Identity
from midiffusion_research.baselines.diffusion import MIDiffusion
from midiffusion_research.datasets import Subject
from midiffusion_research.scorer import gap_closed, score_subject, summary


def _subject(slices=3, side=32, seed=0, name="a", modality="T1"):
    random = np.random.default_rng(seed)
    head = np.zeros((slices, side, side), dtype=bool)
    head[:, 6:-6, 6:-6] = True
    coarse = random.random((slices, side // 4, side // 4)).repeat(4, axis=1).repeat(4, axis=2)
    target = np.where(head, 0.1 + 0.8 * coarse, 0.0).astype(np.float32)
    source = np.where(head, 1 - target, 0).astype(np.float32)
    return Subject(name, Volume(source, np.diag([2.0, 2, 4, 1]), modality), target, head)


def test_a_perfect_output_scores_perfectly():
    subject = replace(_subject(), contiguous=True)
    for size in (None, 16):
        found = score_subject(subject.target, subject, size, "FLAIR")
        assert found["ssim"] == found["ssim_full"] == pytest.approx(1)
        assert found["mae"] == found["mse_8bit"] == 0
        assert found["psnr"] == found["psnr_full"] == math.inf
        assert found["flicker"] == found["flicker_gain"] == pytest.approx(1)
        assert found["texture"] == found["texture_real"]
        assert found["nmi"] == pytest.approx(2)
        assert found["ssim_source"] < 0.5 and found["ssim_source_full"] < 0.5
        assert "mae_hu" not in found and "lesion_mae" not in found


def test_errors_are_those_put_in():
    subject = _subject()
    inside = np.clip(subject.target + 0.1 * subject.head, 0, 1)
    found = score_subject(inside, subject, None, "CT")
    assert found["mae"] == pytest.approx(0.1, abs=1e-6)
    assert found["mae_hu"] == pytest.approx(306, abs=0.01)
    assert found["psnr"] == pytest.approx(20, abs=1e-4)
    share = subject.head.mean()
    assert found["psnr_full"] == pytest.approx(20 - 10 * math.log10(share), abs=1e-4)
    assert found["mse_8bit"] == pytest.approx((25.5**2) * share, rel=1e-5)


def test_outputs_are_clipped_but_never_rescaled():
    subject = _subject()
    beyond = np.where(subject.target > 0.5, 7.0, subject.target)
    clipped = np.where(subject.target > 0.5, 1.0, subject.target)
    assert score_subject(beyond, subject, None, "T1") == score_subject(clipped, subject, None, "T1")
    dim = score_subject(0.5 * subject.target, subject, None, "T1")
    assert dim["psnr"] < 15
    dim = score_subject(0.5 * subject.target, replace(subject, contiguous=True), None, "T1")
    assert dim["flicker"] == pytest.approx(0.5)
    assert dim["flicker_gain"] == pytest.approx(1)
    assert dim["psnr_gain"] > 100


def test_slices_without_head_are_left_out():
    subject = _subject()
    empty = subject.head.copy()
    empty[1] = False
    wrong = subject.target.copy()
    wrong[1] = 0.77
    found = score_subject(wrong, replace(subject, head=empty), None, "T1")
    assert found["mae"] == 0
    with pytest.raises(InvalidData, match="No slice of a"):
        score_subject(wrong, replace(subject, head=np.zeros_like(empty)), None, "T1")


def test_unusable_outputs_are_refused():
    subject = _subject()
    with pytest.raises(InvalidData, match="shape"):
        score_subject(subject.target[:2], subject, None, "T1")
    with pytest.raises(InvalidData, match="not finite"):
        score_subject(np.full_like(subject.target, np.nan), subject, None, "T1")


def test_the_gap_is_closed_by_the_share_it_says():
    random = np.random.default_rng(0)
    lower = {str(i): {"ssim": 0.4 + 0.05 * random.standard_normal()} for i in range(12)}
    upper = {key: {"ssim": value["ssim"] + 0.4} for key, value in lower.items()}
    ours = {key: {"ssim": value["ssim"] + 0.3} for key, value in lower.items()}
    found = gap_closed(ours, lower, upper)
    # Resampled together, the subjects' own spread falls out: the interval has no width.
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.75, 0.75))
    assert gap_closed(lower, lower, upper).value == pytest.approx(0)
    assert gap_closed(upper, lower, upper).value == pytest.approx(1)
    assert math.isnan(gap_closed(ours, upper, lower).value)


def test_histogram_matching_recovers_a_monotone_map_and_only_that():
    subjects = [_subject(seed=seed) for seed in range(6)]
    method = HistogramMatching()
    method.fit(subjects, Budget(steps=1))
    target = subjects[0].target
    gamma = Volume(np.sqrt(target), np.eye(4))
    assert np.abs(method.translate(gamma) - target)[subjects[0].head].mean() < 0.06
    inverted = method.translate(subjects[0].source)
    assert np.abs(inverted - target)[subjects[0].head].mean() > 0.2
    assert (inverted[~subjects[0].head] == 0).all()


def test_histogram_matching_uses_training_targets_alone():
    subjects = [_subject(seed=seed) for seed in range(3)]
    source = _subject(seed=9).source
    other = [replace(s, source=Volume(0 * s.source.data, np.eye(4))) for s in subjects]
    outputs = []
    for train in (subjects, other):
        method = HistogramMatching()
        method.fit(train, Budget(steps=1))
        outputs.append(method.translate(source))
    np.testing.assert_array_equal(*outputs)
    with pytest.raises(InvalidData, match="training subjects"):
        HistogramMatching().fit([], Budget(steps=1))


def test_budgets():
    assert Budget(seconds=5).spent(5, 0) and not Budget(seconds=5).spent(4.9, 10**6)
    assert Budget(seconds=5, steps=3).spent(0.1, 3)
    for wrong in ({}, {"steps": 0}, {"seconds": -1.0}):
        with pytest.raises(InvalidParameter):
            Budget(**wrong)


class _Recorder:
    """A translation model that returns its source as if it were a result in the card's units."""

    def __init__(self, intensity):
        self.intensity = intensity_map(intensity)

    def translate(self, volume, how):
        self.volume, self.how = volume, how
        return SimpleNamespace(volume=volume)


def test_ct_goes_in_and_comes_out_in_hounsfield_units():
    model = _Recorder({"kind": "hounsfield", "low": -1000.0, "high": 2060.0})
    subject = _subject(modality="CT")
    sampling = TranslationOptions(steps=3, samples=2, seed=5)
    output = MIDiffusion(model, sampling).translate(subject.source)
    assert model.volume.data.min() == -1000
    assert model.how == sampling
    np.testing.assert_allclose(output, subject.source.data, atol=1e-6)


def test_mr_comes_out_on_the_nominal_scale():
    model = _Recorder({"kind": "percentile", "percentile": 99.5, "unit": 1000.0})
    subject = _subject()
    output = MIDiffusion(model, TranslationOptions()).translate(subject.source)
    np.testing.assert_allclose(output, subject.source.data / 1000, atol=1e-6)


def test_identity_is_a_copy():
    subject = _subject()
    output = Identity().translate(subject.source)
    output += 1
    assert subject.source.data.max() < 1.001


def test_summary_reports_what_some_subjects_have():
    found = summary({"a": {"ssim": 0.5, "lesion_mae": 0.2}, "b": {"ssim": 0.7}})
    assert found["ssim"].value == pytest.approx(0.6)
    assert found["lesion_mae"].value == pytest.approx(0.2)
    assert set(found) == {"ssim", "lesion_mae"}
