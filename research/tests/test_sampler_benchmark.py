"""`midiffusion-research sampler` on a miniature collection and an untrained bundle."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion_research.cli import main
from midiffusion_research.datasets import dataset
from midiffusion_research.datasets.collections import frozen_split
from midiffusion_research.sampler_benchmark import Row, enough
from toys import saveCollection

VALIDATION = frozen_split("tcga_lgg")[1]


@pytest.fixture
def collection(tmp_path):
    return saveCollection(tmp_path / "tcga_lgg", VALIDATION, slices=5)


@pytest.fixture
def bundle(tmp_path):
    """Real networks that were never trained."""
    return saveTiny(tmp_path / "bundle", pixel_mm=1.6)


def test_the_command_writes_figures_and_names_the_device(collection, bundle, tmp_path, capsys):
    out = tmp_path / "sampler.json"
    arguments = ["--model", bundle, "--data", collection, "--json", out, "--device", "cpu"]
    arguments += ["--subjects", 1, "--slices", 2, "--converged", 97, "--evaluations", 8, 32]
    assert main(["sampler", *map(str, arguments)]) == 0
    report = json.loads(out.read_text())
    assert report["device"].startswith("cpu (") and report["slices"] == 2
    assert report["subjects"] == VALIDATION[:1]
    rows = [Row(**row) for row in report["rows"]]
    assert (rows[0].sampler, rows[0].evaluations, rows[0].distance) == ("dpmpp_2m", 97, None)
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
        assert 0 < many < few / 2
    assert all(row.distance is None for row in rows[1:5])
    table = capsys.readouterr().out
    assert "converged (dpmpp_2m)" in table and table.count("\n| dpmpp_2m |") == 2


def test_bad_arguments_leave_one_line_and_no_file(collection, bundle, tmp_path, capsys):
    out = tmp_path / "sampler.json"
    arguments = ["--model", bundle, "--data", collection, "--json", out, "--evaluations", 0]
    assert main(["sampler", *map(str, arguments)]) != 0
    assert capsys.readouterr().err.startswith("error: ") and not out.exists()


def test_enough_is_where_quality_stays_near_the_converged():
    def row(name, evaluations, ssim):
        return Row(name, evaluations, evaluations, ssim, 20.0, None, 0.0)

    rows = [row("heun", 129, 0.8)]
    rows += [row("heun", n, s) for n, s in ((1, 0.80), (3, 0.9), (5, 0.793), (9, 0.8))]
    rows += [row("dpmpp_2m", n, s) for n, s in ((1, 0.8), (4, 0.79))]
    assert enough(rows) == {"heun": 5, "dpmpp_2m": None}


def test_slices_are_spread_evenly(collection):
    subject = dataset("tcga-lgg").load(collection, "t1:flair", "val")[0]
    for count, kept in ((1, [2]), (2, [1, 3]), (3, [0, 2, 4])):
        few = subject.some(count)
        np.testing.assert_array_equal(few.target, subject.target[kept])
        np.testing.assert_array_equal(few.source.data, subject.source.data[kept])
        np.testing.assert_array_equal(few.head, subject.head[kept])
        np.testing.assert_array_equal(few.tumour, subject.tumour[kept])
    assert subject.some(5) is subject and subject.some(9) is subject
