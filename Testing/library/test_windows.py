"""`midiffusion benchmark windows` on a miniature collection and an untrained bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion.cli import main
from midiffusion.evaluation.baselines.diffusion import MIDiffusion, Sampling
from midiffusion.evaluation.datasets import dataset
from midiffusion.evaluation.scorer import score_subject
from midiffusion.model import load_model
from midiffusion.training.data import frozen_split
from toys import saveCollection


def test_each_window_is_tried_on_training_subjects(tmp_path: Path, capsys: Any) -> None:
    training, _ = frozen_split("tcga_lgg")
    data = saveCollection(tmp_path / "tcga_lgg", training, slices=3)
    bundle, out = saveTiny(tmp_path / "tiny"), tmp_path / "windows.json"
    arguments = ["--model", bundle, "--data", data, "--json", out, "--device", "cpu", "--steps", 1]
    arguments += ["--subjects", 2, "--slices", 1, "--widths", 0, 25]
    assert main(["benchmark", "windows", *map(str, arguments)]) == 0
    report = json.loads(out.read_text())
    assert set(report["subjects"]) <= set(training)
    assert (len(report["subjects"]), report["slices"]) == (2, 2)
    # None is the network's own result, and 25 mm what users get between contrasts of MR.
    by_name = {s.id: s for s in dataset("tcga-lgg").load(data, "t1:flair", "train")}
    subjects = [by_name[name].some(1) for name in report["subjects"]]
    found = []
    for width, detail in (("0", False), ("25", True)):
        method = MIDiffusion(load_model(bundle), Sampling(1, device="cpu", detail=detail))
        scored = [score_subject(method.translate(s.source), s, 128, "FLAIR") for s in subjects]
        found.append(report["widths_mm"][width]["ssim"]["value"])
        assert found[-1] == pytest.approx(np.mean([one["ssim"] for one in scored]), abs=1e-6)
    assert found[0] != found[1]
    assert capsys.readouterr().out.count("\n| ") == 4
