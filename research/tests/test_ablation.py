"""The ablation: what a row changes is what is trained, and a finished row is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from midiffusion.diffusion.conditioning import LMICondition, LMISettings
from midiffusion.errors import InvalidParameter
from midiffusion.images.volume import Volume
from midiffusion.lmi import LocalMutualInformation
from midiffusion_research import ablation
from midiffusion_research.baselines.method import Budget
from midiffusion_research.baselines.onestimate import EstimateCondition, OnEstimate
from midiffusion_research.baselines.scratch import FromScratch
from midiffusion_research.datasets import Subject
from midiffusion_research.training.augmentation import RandomContrast
from midiffusion_research.training.configuration import TrainingConfig

SIDE = 64


def _subjects(count):
    subjects = []
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    for number in range(count):
        radius = np.hypot(x / 0.8, y / (0.8 + 0.02 * number))
        target = np.where(radius < 28, 0.34, 0.0) + np.where(abs(radius - 24) < 2, 0.4, 0.0)
        target = target[None].astype(np.float32)
        volume = Volume(1.2 * target**0.5, np.diag([-3.3, -3.3, 5.0, 1.0]), "MR")
        subjects.append(Subject(str(number), volume, target, target > 0, target_modality="CT"))
    return subjects


class _Data:
    name, directions, bundles = "heads", ("mr:ct",), {"ct": "ct"}

    def load(self, root, direction, split, most=None):
        return _subjects(4 if split == "train" else 2)


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    monkeypatch.setattr("midiffusion_research.run.dataset", lambda name: _Data())
    small = {"channels": [8, 16], "blocks": 1, "patch": 2}
    monkeypatch.setattr(ablation, "NETWORK", small)
    common = ["--data", str(tmp_path), "--json", str(tmp_path / "a.json"), "--device", "cpu"]
    return [*common, "--steps", "2", "--rows"]


def test_every_row_is_a_setting_that_exists():
    shipped = TrainingConfig.for_target("ct")
    for changes in ablation.ROWS.values():
        RandomContrast(**{**shipped.contrast, **changes.get("contrast", {})})
        lmi = {**shipped.lmi, **changes.get("lmi", {})}
        LocalMutualInformation(lmi.get("estimator", "kde"))
        assert set(changes) <= {
            "contrast",
            "lmi",
            "extraction",
            "cut",
            "dropout",
            "samples",
            "evaluations",
            "weight",
            "gradient",
            "cross",
        }
    trained = [json.dumps(changes, sort_keys=True) for changes in ablation.ROWS.values()]
    assert len(set(trained)) == len(trained)


def test_rows_are_trained_with_their_change_and_kept(arguments, monkeypatch, tmp_path, capsys):
    trained = []
    fit = FromScratch.fit

    def noted(self, train, budget):
        trained.append(self._config)
        fit(self, train, budget)

    monkeypatch.setattr(FromScratch, "fit", noted)
    rows = ["as shipped", "mean of 4 samples", "no cross term"]
    assert ablation.main([*arguments, *rows]) == 0
    shipped, changed = trained  # one training serves the rows that only sample otherwise
    assert shipped.lmi == {} and changed.lmi["cross_dilations"] == []
    assert shipped.contrast == changed.contrast == TrainingConfig.for_target("ct").contrast
    figures = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert set(figures) == set(rows)
    assert all(len(subjects) == 2 for subjects in figures.values())
    assert figures["as shipped"] != figures["mean of 4 samples"]
    text = capsys.readouterr().out
    assert all(f"| {row} |" in text for row in rows)
    trained.clear()
    assert ablation.main([*arguments, *rows]) == 0
    assert not trained and capsys.readouterr().out == text


def test_the_change_is_of_the_same_subjects():
    shipped = {"a": {"ssim": 0.2}, "b": {"ssim": 0.6}}
    changed = {"b": {"ssim": 0.66}, "a": {"ssim": 0.25}}
    lines = ablation.markdown({"as shipped": shipped, "one scale": changed}).splitlines()
    assert lines[-1].startswith("| one scale | 0.055 (0.050 to 0.060) |")
    assert lines[-2].startswith("| as shipped |  |")
    assert "| one scale |  |" in ablation.markdown({"one scale": changed})  # nothing to compare


def test_rows_of_other_settings_are_not_mixed(arguments, monkeypatch):
    ablation.main([*arguments, "as shipped"])
    with pytest.raises(InvalidParameter, match="other settings"):
        ablation.main(["--seed", "1", *arguments, "as shipped"])
    other = replace(TrainingConfig.for_target("ct"), dropout=0.3)
    monkeypatch.setattr(TrainingConfig, "for_target", lambda target: other)
    with pytest.raises(InvalidParameter, match="other settings"):
        ablation.main([*arguments, "as shipped"])


def test_rows_of_other_code_are_not_mixed(arguments, monkeypatch):
    ablation.main([*arguments, "as shipped"])
    monkeypatch.setattr(ablation, "code_version", lambda module: f"{module}, changed")
    with pytest.raises(InvalidParameter, match="other code"):
        ablation.main([*arguments, "as shipped"])


def test_a_direction_that_is_none_is_refused(arguments):
    with pytest.raises(InvalidParameter, match="heads has no direction 'ct'; choose from mr:ct"):
        ablation.main(["--direction", "ct", *arguments, "as shipped"])


METHOD = FromScratch("row", TrainingConfig.for_target("ct"), size=SIDE)


def _images(count):
    return torch.rand((count, 1, 24, 24), generator=torch.Generator().manual_seed(count))


class _Denoiser:
    """Says half, and what the first map says."""

    sigma_data = 0.3

    def __call__(self, x, sigma, channels):
        return 0.5 + 0.1 * x / (1 + sigma) + channels[:, :1]


def _steered(source, **how):
    method = METHOD.sampled("row", **how)
    return method._denoise(_Denoiser(), method._condition(source), source)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0])
def test_guidance_goes_on_from_the_prior_through_the_conditioned_estimate(weight):
    source, x = _images(2), _images(3)[:2]
    maps = LocalMutualInformation("kde", dilations=(1,), bandwidths=(0.04,))(source, source)
    found = _steered(source, weight=weight)(x, 1.0)
    torch.testing.assert_close(found, 0.5 + 0.05 * x + weight * maps)


def test_the_gradient_of_lmi_moves_the_prior_towards_the_source():
    source, x = _images(2), _images(3)[:2]
    lmi = LocalMutualInformation("kde", dilations=(1, 2, 4), bandwidths=(0.04, 0.12))
    plain, moved = (
        lmi(source, _steered(source, weight=0.0, gradient=g)(x, 1.0)) for g in (0.0, 0.2)
    )
    assert (moved.mean(dim=(1, 2, 3)) > plain.mean(dim=(1, 2, 3)) + 0.01).all()


def test_cross_maps_on_the_estimate_are_those_of_source_and_estimate():
    source, estimate = _images(2), _images(3)[:2]
    condition = EstimateCondition(LMICondition(source, LMISettings()))
    x = 40 * torch.randn(2, 1, 24, 24)
    blank = condition.channels(x, 0.1)
    assert not blank[:, 6:].any() and blank[:, :6].any()
    condition.estimate = estimate
    lmi = LocalMutualInformation("kde", dilations=(2,), bandwidths=(0.12,))
    found = condition.channels(x, 40.0)
    torch.testing.assert_close(found[:, 6:], lmi(source, estimate))
    torch.testing.assert_close(condition.select(slice(1, 2)).channels(x[1:], 40.0), found[1:])


def test_an_evaluation_sees_the_estimate_of_the_one_before():
    method = OnEstimate("row", TrainingConfig.for_target("ct"), size=SIDE)
    source, pictures, seen = _images(2), [_images(3)[:2], _images(4)[:2]], []

    class Denoiser(_Denoiser):
        def __call__(self, x, sigma, channels):
            seen.append(channels[:, 6:])
            return pictures[len(seen) - 1]

    condition = method._condition(source)
    denoise = method._denoise(Denoiser(), condition, source)
    denoise(source, 40.0)
    denoise(source, 10.0)
    lmi = LocalMutualInformation("kde", dilations=(2,), bandwidths=(0.12,))
    assert not seen[0].any()
    torch.testing.assert_close(seen[1], lmi(source, pictures[0]))
    method._denoise(Denoiser(), condition, source)
    assert condition.estimate is None  # a sample does not start from another one's end


def test_training_on_the_estimate_sees_both_an_estimate_and_none(monkeypatch):
    asked = []
    channels = EstimateCondition.channels

    def noted(self, x, sigma):
        asked.append(self.estimate is not None)
        return channels(self, x, sigma)

    monkeypatch.setattr(EstimateCondition, "channels", noted)
    network = {"channels": [8, 16], "blocks": 1, "patch": 2}
    config = replace(TrainingConfig.for_target("ct"), network=network)
    OnEstimate("row", config, size=SIDE).fit(_subjects(4), Budget(steps=6))
    assert True in asked and len(asked) == 6 + sum(asked)  # one pass more for each estimate
    assert sum(asked) < 6
