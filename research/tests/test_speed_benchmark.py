"""`midiffusion-research speed` on a tiny model: the figures are of what they say they are."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from bundles import saveTiny
from midiffusion.images.grid import SliceGrid
from midiffusion.pipeline import translate as pipeline
from midiffusion.pipeline.slice import Slice
from midiffusion.pipeline.target import load_model
from midiffusion_research.cli import main
from midiffusion_research.speed import evaluation, growth, volume
from midiffusion_research.speed.tables import exponents, markdown
from midiffusion_research.speed.timing import phantom

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return saveTiny(tmp_path_factory.mktemp("models") / "tiny")


def test_one_command_measures_everything(tiny, tmp_path, capsys):
    out = tmp_path / "speed.json"
    arguments = ["--model", tiny, "--device", "cpu", "--threads", 1, "--json", out, "--repeats", 1]
    arguments += ["--slices", 3, "--size", 64, "--growth-slices", 2, "--growth-sizes", 64]
    arguments += ["--note", "a test"]
    assert main(["speed", *map(str, arguments)]) == 0
    report = json.loads(out.read_text())
    assert report["device"].startswith("cpu (") and report["threads"] == 1
    assert report["torch"] == torch.__version__ and report["note"] == "a test"
    assert report["precision"] in ("float32", "bfloat16")
    found = report["evaluation"]
    assert 0 < found["lmi_share"] < 1 and found["cross_maps_s"] > 0
    assert found["gemm_gflops"] > found["gflop"] > 0
    run = report["volume"]
    assert (run["slices"], run["size"], run["views"]) == (3, 64, 4)
    assert run["steps"]["mean"] > 0 and run["steps"]["detail"] > 0
    point = report["growth"]["slices"]["points"][0]
    assert (point["slices"], point["size"]) == (2, 64)
    assert point["seconds"] > 0 and point["wall_s"] > 0
    assert (point["memory_bytes"] is not None) == sys.platform.startswith("linux")
    start = report["startup"]
    assert 0 < start["first_event"] < start["first_progress"] < start["done"]
    printed = capsys.readouterr().out
    assert printed.count("\n| cpu (") == 5 and "a test" in printed


@pytest.mark.parametrize(
    "arguments", [["--slices", "1"], ["--threads", "0"], ["--growth-sizes", "64", "16"]]
)
def test_nonsense_is_refused(arguments, tmp_path, capsys):
    out = tmp_path / "speed.json"
    assert main(["speed", "--json", str(out), *arguments]) == 1
    assert arguments[0] in capsys.readouterr().err and not out.exists()


def test_operations_are_those_of_the_layers(tiny):
    """Counted by hand: each output value of a layer takes as many multiplications and additions
    as its kernel has weights for one output channel."""
    loaded, counted = load_model(tiny), []

    def count(module, _, output):
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            counted.append(2 * output.numel() * module.weight[0].numel())

    for module in loaded.backbone.modules():
        module.register_forward_hook(count)
    assert evaluation.network_gflop(loaded, CPU, 64) * 1e9 == pytest.approx(sum(counted))


def test_steps_are_timed_and_the_pipeline_is_put_back(tiny):
    before = pipeline.STEPS
    with volume.timed_steps(CPU) as taken:
        load_model(tiny).translate(phantom(2, 64, 5.0), device="cpu")
    assert pipeline.STEPS is before
    assert {"check", "slice", "mean", "detail", "units"} <= set(taken)
    assert "sample" not in taken and min(taken.values()) >= 0


def test_exponent_of_a_power_law():
    sizes = [16, 32, 64, 512]
    assert growth.exponent(sizes, [3 * s**1.7 for s in sizes]) == pytest.approx(1.7)
    assert growth.exponent(sizes, [1.0, 2.0, None, 3.0]) is None
    assert growth.exponent([16], [1.0]) is None


def test_memory_of_a_further_slice():
    assert growth.per_slice([16, 32, 512], [7 + 3 * n for n in (16, 32, 512)]) == pytest.approx(3)
    assert growth.per_slice([16, 32], [100, None]) is None


def test_growth_of_an_unknown_memory_is_not_measured():
    point = {"slices": 2, "size": 64, "seconds": 1.0, "wall_s": 1.5, "memory_bytes": None}
    axis = {"points": [point], "time_exponent": 1.04, "memory_exponent": None}
    report = {"device": "cuda:0 (GPU)", "threads": 3, "precision": "bfloat16", "torch": "2"}
    grown = {"steps": 2, "slices": axis, "size": axis, "bytes_per_slice": None}
    report |= {"note": "", "growth": grown}
    assert "time grows to the power 1.04, memory not measured" in exponents(report)
    assert "each further slice" not in exponents(report)
    report["growth"]["bytes_per_slice"] = 2.5e6
    assert "each further slice of 64 x 64 pixels takes 2.50 MB" in exponents(report)
    assert "| cuda:0 (GPU), 3 threads, bfloat16, PyTorch 2 | 2 | 64 x 64 |" in markdown([report])


def test_the_model_sees_a_phantom_as_the_slices_asked_for():
    made = phantom(5, 96, 1.7)
    made.check()
    assert Slice().planes(made) == ("axial",)
    assert SliceGrid.of(made, 1.7, "axial", 8).shape == (5, 96, 96)
    assert made.data.shape == (5, 144, 144)
