"""`midiffusion benchmark speed` on a tiny model: the figures are of what they say they are."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from bundles import saveTiny
from midiffusion.cli import main
from midiffusion.evaluation.speed import evaluation, growth, volume
from midiffusion.evaluation.speed.tables import STAGES, exponents, markdown
from midiffusion.evaluation.speed.timing import phantom
from midiffusion.grid import SliceGrid
from midiffusion.model import load_model
from midiffusion.names import ORIENTATIONS
from midiffusion.noise import geometric_sigmas

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return saveTiny(tmp_path_factory.mktemp("models") / "tiny")


def test_one_command_measures_everything(tiny, tmp_path, capsys):
    out = tmp_path / "speed.json"
    arguments = ["--model", tiny, "--device", "cpu", "--threads", 1, "--json", out, "--repeats", 1]
    arguments += ["--slices", 3, "--size", 64, "--growth-slices", 2, "--growth-sizes", 64]
    arguments += ["--note", "a test"]
    assert main(["benchmark", "speed", *map(str, arguments)]) == 0
    report = json.loads(out.read_text())
    assert report["device"].startswith("cpu (") and report["threads"] == 1
    assert report["torch"] == torch.__version__ and report["note"] == "a test"
    assert report["precision"] in ("float32", "bfloat16")
    found = report["evaluation"]
    assert 0 < found["lmi_share_of_run"] < 1 and found["lmi_share"] > 0
    assert found["gemm_gflops"] > found["gflop"] > 0
    run = report["volume"]
    assert (run["slices"], run["size"], run["steps"]) == (3, 64, 4)
    assert list(run["stages"]) == list(STAGES) and min(run["stages"].values()) > 0
    assert run["with_agreement_s"] > 0
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
    assert main(["benchmark", "speed", "--json", str(out), *arguments]) == 1
    assert arguments[0] in capsys.readouterr().err and not out.exists()


def test_operations_are_those_of_the_layers(tiny):
    """Counted by hand: each output value of a layer takes as many multiplications and additions
    as its kernel has weights for one output channel."""
    loaded, counted = load_model(tiny), []

    def count(module, _, output):
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            counted.append(2 * output.numel() * module.weight[0].numel())

    for module in loaded.denoiser.modules():
        module.register_forward_hook(count)
    assert evaluation.network_gflop(loaded, CPU, 64) * 1e9 == pytest.approx(sum(counted))


def test_evaluations_with_cross_maps_are_counted_on_the_schedule_of_a_run(tiny):
    loaded = load_model(tiny)
    found = evaluation.measure(loaded, CPU, 64, 1)
    card = loaded.card
    levels = geometric_sigmas(card.default_steps, 0.5, card.sigma_max)[:-1]
    assert found.evaluations == len(levels) == 4
    assert found.with_cross == sum(float(level) <= 1.0 for level in levels)
    assert 0 < found.with_cross < 4


def test_stages_add_up_to_the_run():
    watch = volume._Watch(CPU)
    watch.begin, watch.end = 10.0, 30.0
    watch.calls = [("maps", 11.0, 12.0), ("maps", 12.0, 13.5)]  # self maps
    watch.calls += [("network", 14.0, 16.0), ("maps", 17.0, 17.5), ("network", 18.0, 21.0)]
    stages = watch.stages()
    assert stages == {
        "to slices": 1.0,
        "self maps": 3.0,
        "network": 5.0,
        "cross maps": 0.5,
        "solver and rest": 1.5,
        "to voxels": 9.0,
    }
    assert sum(stages.values()) == 20.0


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


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_model_sees_a_phantom_as_the_slices_asked_for(orientation):
    made = phantom(5, 96, 1.7, orientation)
    made.check()
    assert SliceGrid.of(made, 1.7, orientation, 8).shape == (5, 96, 96)
    assert made.data.shape == (5, 144, 144)
