"""`midiffusion benchmark sampler` on a miniature collection and an untrained bundle."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from midiffusion.bundle import save_bundle
from midiffusion.card import ModelCard
from midiffusion.cli import main
from midiffusion.conditioning import LMISettings
from midiffusion.denoiser import Denoiser
from midiffusion.evaluation.datasets import dataset
from midiffusion.evaluation.sampler_benchmark import SCHEDULES, Row, enough
from midiffusion.network import UNet, UNetConfig
from midiffusion.training.data import frozen_split
from toys import saveCollection

VALIDATION = frozen_split("tcga_lgg")[1]


@pytest.fixture
def collection(tmp_path):
    return saveCollection(tmp_path / "tcga_lgg", VALIDATION, slices=5)


@pytest.fixture
def bundle(tmp_path, card_values):
    """A real network that was never trained: its denoiser is all but linear."""
    settings = LMISettings(dilations=(1,), bandwidths=(0.1,), cross_dilations=())
    network = {"cond_channels": settings.channels, "channels": (4, 4), "embedding": 8}
    torch.manual_seed(0)
    denoiser = Denoiser(UNet(UNetConfig(**network)), sigma_data=0.5)
    lmi = {"dilations": [1], "bandwidths": [0.1], "cross_dilations": []}
    card = ModelCard.from_dict(card_values)
    card = replace(card, lmi=lmi, network=network | {"channels": [4, 4]}, pixel_mm=1.6)
    save_bundle(tmp_path / "bundle", card, denoiser)
    return tmp_path / "bundle"


def test_the_command_writes_figures_and_names_the_device(collection, bundle, tmp_path, capsys):
    out = tmp_path / "sampler.json"
    arguments = ["--model", bundle, "--data", collection, "--json", out, "--device", "cpu"]
    arguments += ["--subjects", 1, "--slices", 2, "--converged", 97, "--evaluations", 8, 32]
    assert main(["benchmark", "sampler", *map(str, arguments)]) == 0
    report = json.loads(out.read_text())
    assert report["device"].startswith("cpu (") and report["slices"] == 2
    assert report["subjects"] == VALIDATION[:1]
    rows = [Row(**row) for row in report["rows"]]
    assert (rows[0].sampler, rows[0].evaluations, rows[0].distance) == ("dpmpp_2m", 97, None)
    assert {row.schedule for row in rows} == {"geometric"}
    assert [(row.sampler, row.evaluations) for row in rows[1:]] == [
        ("euler_maruyama", 8),
        ("euler_maruyama", 32),
        ("predictor_corrector", 7),
        ("predictor_corrector", 31),
        ("heun", 7),
        ("heun", 31),
        ("dpmpp_2m", 8),
        ("dpmpp_2m", 32),
    ]
    for name in ("heun", "dpmpp_2m"):
        few, many = (row.distance for row in rows[1:] if row.sampler == name)
        assert 0 < many < few / 3
    assert all(row.distance is None for row in rows[1:5])
    table = capsys.readouterr().out
    assert "converged (dpmpp_2m)" in table and table.count("\n| dpmpp_2m |") == 2


def test_schedules_are_other_ways_to_one_sample(collection, bundle, tmp_path, capsys):
    out = tmp_path / "sampler.json"
    arguments = ["--model", bundle, "--data", collection, "--json", out, "--device", "cpu"]
    arguments += ["--subjects", 1, "--slices", 1, "--converged", 97, "--samplers", "dpmpp_2m"]
    arguments += ["--schedules", "geometric", "edm", "--evaluations", 8, 48]
    assert main(["benchmark", "sampler", *map(str, arguments)]) == 0
    rows = [Row(**row) for row in json.loads(out.read_text())["rows"]]
    geometric, edm = ([r.distance for r in rows[1:] if r.schedule == s] for s in SCHEDULES)
    assert len(geometric) == len(edm) == 2
    assert geometric[0] != pytest.approx(edm[0], rel=0.05)
    assert max(geometric[1], edm[1]) < min(geometric[0], edm[0]) / 3
    assert "\n| dpmpp_2m, edm | 48 |" in capsys.readouterr().out


def test_bad_arguments_leave_one_line_and_no_file(collection, bundle, tmp_path, capsys):
    out = tmp_path / "sampler.json"
    arguments = ["--model", bundle, "--data", collection, "--json", out, "--evaluations", 0]
    assert main(["benchmark", "sampler", *map(str, arguments)]) != 0
    assert capsys.readouterr().err.startswith("error: ") and not out.exists()


def test_enough_is_where_quality_stays_near_the_converged():
    def row(name, evaluations, ssim, schedule="geometric"):
        return Row(name, schedule, evaluations, evaluations, ssim, 20.0, None, 0.0)

    rows = [row("heun", 129, 0.8)]
    rows += [row("heun", n, s) for n, s in ((1, 0.80), (3, 0.9), (5, 0.793), (9, 0.8))]
    rows += [row("dpmpp_2m", n, s) for n, s in ((1, 0.8), (4, 0.79))]
    rows += [row("heun", 3, 0.8, "edm")]
    assert enough(rows) == {"heun": 5, "dpmpp_2m": None, "heun, edm": 3}


def test_slices_are_spread_evenly(collection):
    subject = dataset("tcga-lgg").load(collection, "t1:flair", "val")[0]
    for count, kept in ((1, [2]), (2, [1, 3]), (3, [0, 2, 4])):
        few = subject.some(count)
        np.testing.assert_array_equal(few.target, subject.target[kept])
        np.testing.assert_array_equal(few.source.data, subject.source.data[kept])
        np.testing.assert_array_equal(few.head, subject.head[kept])
        np.testing.assert_array_equal(few.tumour, subject.tumour[kept])
    assert subject.some(5) is subject and subject.some(9) is subject
