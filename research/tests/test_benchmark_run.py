"""What the benchmark commands share: options, the bundle that a run uses, and how it reports."""

from __future__ import annotations

import json

import pytest
from bundles import saveTiny
from midiffusion import __version__
from midiffusion.errors import InvalidParameter
from midiffusion.runtime.device import choose_device, describe
from midiffusion_research.cli import main
from midiffusion_research.options import add_model, add_run, command
from midiffusion_research.run import Run

PELVIS = ("--dataset", "gold-atlas", "--direction", "t1:ct")


def _options(*arguments):
    parser = command("toy", "A toy.", add_model, add_run)
    return parser.parse_args(["--data", "x", "--device", "cpu", *map(str, arguments)])


@pytest.mark.parametrize(
    "arguments",
    [
        ("robustness", "--slices", 0),
        ("uncertainty", "--samples", 1),
        ("uncertainty", "--seed", -1),
        ("sampler", "--evaluations", 8, 0),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(arguments, capsys):
    assert main([*map(str, arguments), "--data", "nowhere"]) == 1
    _, option, *_ = arguments
    assert capsys.readouterr().err.startswith(f"error: {option} must be at least ")


def test_a_run_is_about_the_first_direction_unless_told():
    run = Run.of(_options("--dataset", "ixi"))
    assert (run.name, run.target, run.modality) == ("ixi pd:t1", "t1", "T1")
    assert Run.of(_options("--dataset", "ixi", "--direction", "t1:t2")).modality == "T2"
    with pytest.raises(InvalidParameter, match="ixi has no direction 't1'; choose from pd:t1"):
        Run.of(_options("--dataset", "ixi", "--direction", "t1"))


def test_the_bundle_is_the_one_named_or_that_of_the_target_or_none(tmp_path):
    saveTiny(tmp_path / "t1", id="t1", title="Tiny T1")
    for collection, direction in (("ixi", "pd:t1"), ("synthrad2023-brain", "ct:mr")):
        place = ("--dataset", collection, "--direction", direction)
        options = _options(*place, "--model-folder", tmp_path)
        assert Run.of(options).model(options).card.id == "t1"
    named = _options(*PELVIS, "--model", tmp_path / "t1")
    assert Run.of(named).model(named).card.title == "Tiny T1"
    unnamed = _options(*PELVIS)  # no head's CT for a pelvis
    with pytest.raises(InvalidParameter, match="No bundle serves gold-atlas t1:ct: name one"):
        Run.of(unnamed).model(unnamed)


def test_the_report_says_where_it_is_from(tmp_path, capsys):
    out, device = tmp_path / "found.json", describe(choose_device("cpu"))
    Run.of(_options("--json", out)).publish("two subjects", "| table |", {"ssim": float("nan")})
    assert capsys.readouterr().out == f"tcga-lgg t1:flair, two subjects, {device}\n\n| table |\n"
    settings = {"version": __version__, "device": device}
    settings |= {"dataset": "tcga-lgg", "direction": "t1:flair"}
    assert json.loads(out.read_text()) == {**settings, "ssim": None}
    Run.of(_options()).publish("two subjects", "| table |", {})
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
