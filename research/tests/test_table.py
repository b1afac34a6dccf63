"""The table command: what it writes, what it keeps, what it makes of an interruption."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion_research import cli
from midiffusion_research.baselines import HistogramMatching, Identity
from midiffusion_research.baselines.diffusion import MIDiffusion
from midiffusion_research.baselines.registry import METHODS
from midiffusion_research.baselines.regressor import Regressor
from midiffusion_research.cells import Cell
from midiffusion_research.paper import paper_rows
from midiffusion_research.tabulate import DirectionTable, markdown, paper_markdown
from midiffusion_research.training.configuration import TrainingConfig
from PIL import Image

SPLIT = json.loads(
    resources.files("midiffusion_research.datasets").joinpath("splits.json").read_text()
)
VALIDATION = SPLIT["tcga_lgg"]["val"]


def _cell(name, value, **more):
    figures = {"ssim": value, "ssim_full": value, "ssim_source_full": 0.1}
    figures |= {"mse_8bit": 400.0, "nmi": 1.2, "psnr_full": 22.0}
    return Cell(name, name, figures={"128": {s: figures for s in "abc"}}, **more)


def test_markdown_shows_the_gap_where_its_ends_exist():
    cells = [_cell("histogram", 0.4), _cell("ours", 0.7), _cell("paired", 0.8)]
    cells[1].figures["128"]["a"] = {**cells[1].figures["128"]["a"], "ssim": 0.4}
    header, _, *rows = markdown(cells, "128").splitlines()
    assert "Gap closed, head" in header and "Frechet" not in header
    assert rows[1].startswith("| ours | 0.600 (0.400 to 0.700) |")
    assert rows[1].endswith("| 0.50 (0.00 to 0.75) | 0.75 |")
    # Where all subjects are alike, or there is one, an interval would say nothing.
    assert rows[0].startswith("| histogram | 0.400 |")
    assert "Gap" not in markdown(cells[1:2], "128")


def test_a_perfect_output_has_no_interval():
    perfect = _cell("perfect", 1.0)
    perfect.figures["128"]["a"] = {**perfect.figures["128"]["a"], "psnr_full": math.inf}
    all_perfect = _cell("all perfect", 1.0)
    all_perfect.figures["128"] = dict.fromkeys("abc", perfect.figures["128"]["a"])
    for row in markdown([perfect, all_perfect], "128").splitlines()[2:]:
        assert "| inf |" in row and "nan" not in row


@pytest.mark.parametrize(("network", "cells"), [("FID", 8), ("Frechet distance (X)", 9)])
def test_the_papers_rows_stand_below_ours_in_its_columns(network, cells):
    ours = _cell("midiffusion", 0.5, frechet=12.34)
    table = DirectionTable("ixi", "pd:t1", 3, [ours], paper_rows("ixi", "pd:t1"), {}, network)
    lines = [line for line in paper_markdown(table, "128").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 1 + 4 and all(line.count("|") == cells for line in lines)
    assert lines[2].startswith("| midiffusion | 0.500 | 0.100 | 400 | 1.20 | 22.00 |")
    assert "12.3" in lines[2]
    assert lines[-1].startswith(
        "| MIDiffusion (unsup) (paper) | 0.11 | 0.19 | 1652.81 | 1.17 | 16.35 | 129.12 |"
    )


def test_the_paper_is_quoted_where_it_has_rows():
    directions = [("gold-atlas", d) for d in ("t2:ct", "ct:t2", "t1:ct", "ct:t1")]
    directions += [("curious", "t1:flair"), ("curious", "flair:t1"), ("ixi", "t1:pd")]
    for data, direction in directions:
        rows = paper_rows(data, direction)
        assert [row.method.split(" ")[0] for row in rows] == [
            "CycleGAN",
            "StyleGAN",
            "SDEdit",
            "MIDiffusion",
        ]
        for row in rows:  # PSNR of 8 bit by its definition, up to the averaging over slices
            expected = 10 * math.log10(255**2 / float(row.mse_8bit))
            assert float(row.psnr_db) == pytest.approx(expected, abs=1.0)
    for data, direction in (("tcga-lgg", "t1:flair"), ("ixi", "t2:t1"), ("gold-atlas", "t1:t2")):
        assert paper_rows(data, direction) == []


def _collection(folder, slices):
    """A TCGA-LGG miniature: T1 0.4, FLAIR 0.8 in every head, training subjects too."""
    sheet = Image.new("RGB", (128, 128 * slices))
    for number in range(slices):
        sheet.paste((102, 204, 0), (32, 128 * number + 32, 96, 128 * number + 96))
    folder.mkdir(parents=True)
    for subject in (i for ids in SPLIT["tcga_lgg"].values() for i in ids):
        sheet.save(folder / f"{subject}.webp", lossless=True)
    return folder


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return _collection(tmp_path_factory.mktemp("table") / "tcga_lgg", 2)


@pytest.fixture
def run(collection, tmp_path, capsys):
    """run(*arguments) -> exit code, stdout, stderr; results in tmp_path / "out"."""

    def command(*arguments):
        words = ["table", "--dataset", "tcga-lgg", "--data", str(collection)]
        words += ["--out", str(tmp_path / "out"), "--device", "cpu", *map(str, arguments)]
        code = cli.main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


ONE_WAY = ("--directions", "t1:flair")
PLAIN = (*ONE_WAY, "--methods", "identity", "histogram")


def test_the_table_command_end_to_end(run, tmp_path):
    outputs = {s: np.full((2, 128, 128), 0.5, dtype=np.float32) for s in VALIDATION}
    np.savez(tmp_path / "half.npz", **outputs)
    code, text, _ = run(*PLAIN, "--predictions", f"half={tmp_path / 'half.npz'}")
    assert code == 0
    assert "128 x 128 pixels, 14 subjects" in text and "64 x 64 pixels" in text
    out = tmp_path / "out"
    assert (out / "tcga-lgg.md").read_text() == text
    written = json.loads((out / "tcga-lgg.json").read_text())["directions"]["t1:flair"]
    assert list(written) == ["identity", "histogram", "half"]
    sizes = {name: cell["sizes"]["64"] for name, cell in written.items()}
    assert list(sizes["half"]["subjects"]) == VALIDATION
    assert sizes["identity"]["summary"]["mae"]["value"] == pytest.approx(0.4, abs=1e-4)
    assert sizes["half"]["summary"]["mae"]["value"] == pytest.approx(0.3, abs=1e-4)
    # Constant heads: the training targets' one value is the right answer, an error of zero.
    assert sizes["histogram"]["summary"]["mae"]["value"] == pytest.approx(0, abs=1e-4)
    # The same picture as the target is at no distance from it, another one is.
    assert written["histogram"]["frechet"] == pytest.approx(0, abs=1e-2)
    assert written["identity"]["frechet"] > 1
    assert "EfficientNet" in text and "FID" not in text
    with (out / "tcga-lgg.csv").open(newline="") as file:
        rows = {(row["method"], row["size"]): row for row in csv.DictReader(file)}
    assert float(rows["half", "128"]["mae"]) == pytest.approx(0.3, abs=1e-4)
    assert float(rows["identity", "64"]["mse_8bit"]) == pytest.approx(
        (0.4 * 255) ** 2 / 4, rel=1e-3
    )
    assert rows["identity", "128"]["frechet_network"] == "Frechet distance (EfficientNet-Lite0)"
    sheet = np.asarray(Image.open(out / "tcga-lgg_t1-flair.png"))
    heads = sheet[100, 84 + 164 * np.arange(5)]  # the middle of each picture of the first row
    np.testing.assert_allclose(heads, [102, 102, 204, 128, 204], atol=1)
    assert not [path for path in out.rglob("*") if ".part" in path.name]


def test_a_cell_once_computed_is_reused_and_nothing_else_is(run, monkeypatch, tmp_path):
    computed = []
    plain = Identity.translate

    def counted(self, slices):
        computed.append("identity")
        return plain(self, slices)

    monkeypatch.setattr(Identity, "translate", counted)
    quick = (*ONE_WAY, "--subjects", "2", "--methods", "identity")
    first = run(*quick)
    assert first[0] == 0 and len(computed) == 2
    again = run(*quick, "--budget", "5", "--steps", "3")  # of no consequence to this method
    table = first[1][first[1].index("## ") :]
    assert again[1].endswith(table) and len(computed) == 2 and "kept" in again[2]
    assert run(*ONE_WAY, "--subjects", "3", "--methods", "identity")[0] == 0
    assert len(computed) == 5  # other subjects, another cell
    # A record that is damaged, or outputs that are gone, count as not there.
    record = next(path for path in (tmp_path / "out" / "cells").glob("*.json"))
    record.write_text("{")
    record.with_suffix(".npz").unlink()
    assert run(*quick)[0] == 0 and run(*ONE_WAY, "--subjects", "3", "--methods", "identity")[0] == 0
    assert len(computed) in (7, 8)


def test_new_figures_of_kept_outputs_need_no_method(run, monkeypatch, tmp_path):
    quick = (*ONE_WAY, "--subjects", "2", "--methods", "identity")
    code, text, _ = run(*quick)
    (record,) = (tmp_path / "out" / "cells").glob("*.json")
    values = json.loads(record.read_text())
    values["scoring"] = "another scorer"
    values["cell"]["figures"]["128"] = {s: {"ssim": 9.0} for s in VALIDATION[:2]}
    record.write_text(json.dumps(values))
    monkeypatch.setattr(Identity, "translate", None)
    again = run(*quick)
    assert again[:2] == (code, text) and "identity" not in again[2]


def test_an_interrupted_run_goes_on_where_it_was(run, monkeypatch, tmp_path):
    quick = (*PLAIN, "--subjects", "2")
    with monkeypatch.context() as patched:
        patched.setattr(
            HistogramMatching, "translate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        code, text, _ = run(*quick)
        assert code == 130 and text == ""
    out = tmp_path / "out"
    assert [path.name for path in out.iterdir()] == ["cells"]
    assert len(list((out / "cells").glob("*identity*"))) == 2
    assert not list((out / "cells").glob("*histogram*"))
    monkeypatch.setattr(Identity, "translate", None)  # not needed any more
    code, text, _ = run(*quick)
    assert code == 0 and "| identity |" in text and "| histogram |" in text


def test_what_decides_a_translation_decides_its_cell(run, monkeypatch, tmp_path):
    calls = []

    def translate(self, slices):
        calls.append(self)
        return np.zeros_like(slices.data)

    monkeypatch.setattr(MIDiffusion, "translate", translate)
    model = saveTiny(tmp_path / "tiny")
    quick = (*ONE_WAY, "--subjects", "1", "--methods", "midiffusion", "--model", model)
    runs = [
        (),
        (),
        ("--steps", 3),
        ("--steps", 3, "--samples", 2),
        ("--seed", 1),
        ("--budget", 5),
        (),
    ]
    new = []
    for arguments in runs:
        assert run(*quick, *arguments)[0] == 0
        new.append(len(calls))
    assert new == [1, 1, 2, 3, 4, 4, 4]
    saveTiny(model, pixel_mm=4.0)  # the same weights on another grid
    code, text, _ = run(*quick)
    assert code == 0 and len(calls) == 5
    assert "model tiny, weights " in text


def test_methods_that_learn_give_the_headline_and_depend_on_the_budget(run, monkeypatch):
    quick = (*ONE_WAY, "--methods", "histogram", "paired", "--learn-size", "64", "--subjects", "2")
    code, text, progress = run(*quick, "--budget", "0.2")
    assert code == 0 and "Gap closed, head" in text
    assert "| paired" in text and "learning, 0.2 s" in progress
    assert re.search(r"^- paired: \d+ steps in \d+ s$", text, re.MULTILINE)
    assert "compare these at 64 x 64 only" in text
    monkeypatch.setattr(Regressor, "fit", None)
    assert run(*quick, "--budget", "0.2")[:2] == (code, text)
    code, text, progress = run(*quick, "--budget", "0.3")  # has to learn anew
    assert code != 0 and text == "" and "TypeError" in progress
    shipped = TrainingConfig.for_target("flair")
    other = replace(shipped, network={**shipped.network, "channels": [8, 8]})
    monkeypatch.setattr(TrainingConfig, "for_target", lambda target: other)
    code, text, progress = run(*quick, "--budget", "0.2")  # and with another network too
    assert code != 0 and text == "" and "TypeError" in progress


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--directions", "t1:ct"], "no direction 't1:ct'"),
        (["--subjects", "0"], "--subjects"),
        ([*ONE_WAY, "--methods", "--predictions", "x=missing.npz"], "missing.npz"),
        ([*PLAIN, "midiffusion", "--model", "no-such-model"], "no-such-model"),
        (["--model", "flair"], "one with --directions"),
        ([*ONE_WAY, "--predictions", "identity=x.npz"], "names of their own"),
        (["--methods", "--predictions", "x=y.npz"], "one with --directions"),
        (["--data", "nowhere"], "no folder nowhere; give that of tcga-lgg"),
        (["--train-data", "nowhere"], "no folder nowhere"),
        (["--methods"], "Nothing to score"),
        (["--budget", "0"], "above 0"),
        (["--slices", "0"], "--slices must be at least 1"),
        (["--samples", "0"], "--samples must be at least 1"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--sampler", "magic"], "no sampler 'magic'; choose from"),
        (["--inception", "missing.pth"], "missing.pth"),
        (["--out", __file__, "--methods", "identity"], "can't be made"),
    ],
)
def test_the_table_command_refuses_in_one_line(run, tmp_path, arguments, sentence):
    code, text, progress = run(*arguments)
    assert code != 0 and text == ""
    last = progress.strip().splitlines()[-1]
    assert last.startswith("error: ") and sentence in last
    assert not list((tmp_path / "out").glob("*"))


def test_predictions_lacking_a_subject_are_refused(run, tmp_path):
    np.savez(tmp_path / "one.npz", **{VALIDATION[0]: np.zeros((2, 128, 128))})
    predictions = ("--predictions", f"x={tmp_path / 'one.npz'}")
    code, _, progress = run(*ONE_WAY, "--methods", *predictions)
    assert code != 0 and "no output for 13 of 14" in progress


def test_every_method_has_its_row_at_a_tiny_budget(run, tmp_path):
    code, text, _ = run(
        *(*ONE_WAY, "--slices", 1, "--subjects", 2, "--budget", 0.2, "--learn-size", 64),
        *("--model", saveTiny(tmp_path / "tiny"), "--steps", 1),
    )
    assert code == 0
    assert "1 evenly spaced slice(s) of each subject alone are scored" in text
    for path in (tmp_path / "out" / "cells").glob("*.npz"):
        assert [outputs.shape for outputs in np.load(path).values()] == [(1, 128, 128)] * 2
    table = text.split("\n\n")[text.split("\n\n").index("## tcga-lgg t1:flair") + 2]
    rows = [line.split("|")[1].strip().split(",")[0] for line in table.splitlines()[2:]]
    assert rows == list(METHODS)
    assert all(-1 <= float(line.split("|")[2].split()[0]) <= 1 for line in table.splitlines()[2:])
