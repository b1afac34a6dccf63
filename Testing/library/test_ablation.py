"""The ablation: what a row changes is what is trained, and a finished row is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from midiffusion.errors import InvalidParameter
from midiffusion.evaluation import ablation
from midiffusion.evaluation.baselines.scratch import FromScratch
from midiffusion.evaluation.datasets import Subject
from midiffusion.lmi import LocalMutualInformation
from midiffusion.training.augmentation import RandomContrast
from midiffusion.training.configuration import TrainingConfig
from midiffusion.volume import Volume

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
    monkeypatch.setattr(ablation, "dataset", lambda name: _Data())
    small = {"channels": [8, 16], "blocks": 1, "patch": 2}
    monkeypatch.setattr(ablation, "_NETWORK", small)
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
            "dropout",
            "samples",
            "evaluations",
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


def test_rows_of_other_settings_are_not_mixed(arguments, monkeypatch):
    ablation.main([*arguments, "as shipped"])
    with pytest.raises(InvalidParameter, match="other settings"):
        ablation.main(["--seed", "1", *arguments, "as shipped"])
    other = replace(TrainingConfig.for_target("ct"), dropout=0.3)
    monkeypatch.setattr(TrainingConfig, "for_target", lambda target: other)
    with pytest.raises(InvalidParameter, match="other settings"):
        ablation.main([*arguments, "as shipped"])


def test_a_direction_that_is_none_is_refused(arguments):
    with pytest.raises(InvalidParameter, match="heads has no direction 'ct'; choose from mr:ct"):
        ablation.main(["--direction", "ct", *arguments, "as shipped"])
