"""The quality report: what is marked, its order, and the page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion import cli
from midiffusion.cohort.report import Entry, write_page, write_report
from midiffusion.cohort.thumbnail import thumbnail
from midiffusion.errors import InvalidData, UnwritableTarget
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def entries(count: int) -> list[Entry]:
    rng = np.random.default_rng(0)
    made = [
        Entry(f"sub-{n:02}", "t1", "done", figures={"expected_error": 100 + float(rng.normal())})
        for n in range(count)
    ]
    made.append(Entry("high", "t1", "done", figures={"expected_error": 150.0}))
    made.append(Entry("bad", "t1", "failed", "UnreadableFile: </script> damaged & cut"))
    made.append(Entry("odd", "t1", "done", warnings=["Not a head."]))
    return made


def data(page: Path) -> list[dict[str, object]]:
    found = re.search(r"const entries = (\[.*\]);\n", page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_outliers_are_marked_by_robust_z_scores_and_the_worst_come_first(tmp_path):
    found = data(write_page(entries(20), tmp_path / "report.html"))
    assert [e["item"] for e in found if e["outlier"]] == ["high"]
    worst = sorted(found, key=lambda e: -float(str(e["worst"])))
    assert [e["item"] for e in worst[:3]] == ["bad", "high", "odd"]


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UnwritableTarget):
        write_page(entries(1), tmp_path / "none" / "report.html")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_results_has_no_report(tmp_path):
    with pytest.raises(InvalidData, match="run the batch first"):
        write_report(tmp_path)


@pytest.mark.parametrize("flip", [np.diag([1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1])])
def test_thumbnail_shows_the_right_on_the_left_and_anterior_up_in_any_storage_order(flip):
    data = np.full((20, 20, 20), 1.0, np.float32)  # [superior, anterior, right] in RAS
    data[:, 14:, 14:] = 900.0  # right and anterior
    image = Volume(data, np.diag([5.0, 5.0, 5.0, 1.0]), "MR T1")
    stored = np.ascontiguousarray(data[:, ::-1, ::-1]) if flip[0, 0] < 0 else data
    matrix = flip @ np.diag([5.0, 5.0, 5.0, 1.0])
    made = thumbnail(Volume(stored, matrix, "MR T1"), Volume(stored, matrix, "MR T1"), None)
    assert made == thumbnail(image, image, None)
    pixels = np.asarray(Image.open(BytesIO(made)).convert("L"), float)
    axial = pixels[:150, :150]
    assert axial[10:40, 10:40].mean() > 200 > 60 > axial[110:140, 110:140].mean()


def test_translate_writes_a_page_of_one(tmp_path, volume, capsys):
    write_volume(tmp_path / "a.nrrd", volume)
    page, tiny = tmp_path / "one.html", str(saveTiny(tmp_path / "models" / "tiny"))
    words = ["translate", tmp_path / "a.nrrd", "--to", tiny, "-o", tmp_path / "o.nrrd"]
    assert cli.main([str(word) for word in (*words, "--report", page)]) == 0
    assert str(page) in capsys.readouterr().out
    (entry,) = data(page)
    assert entry["item"] == "a.nrrd" and entry["picture"]


def test_batch_writes_the_report(tmp_path, volume, capsys):
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "a.nrrd", volume)
    tiny = str(saveTiny(tmp_path / "models" / "tiny"))
    assert (
        cli.main(["batch", str(tmp_path / "in"), str(tmp_path / "out"), "--to", tiny, "--report"])
        == 0
    )
    (entry,) = data(tmp_path / "out" / "report.html")
    assert entry["state"] == "done" and entry["picture"]


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_page_runs_in_a_browser_without_errors_and_sorts(tmp_path):
    page = write_page(entries(20), tmp_path / "report.html")
    script = """<script>
    window.addEventListener("load", () => {
      const names = () => [...document.querySelectorAll("h2")].map(e => e.firstChild.data.trim());
      const first = names()[0];
      document.getElementById("sort").value = "item";
      document.getElementById("sort").dispatchEvent(new Event("change"));
      const sorted = names()[0];
      document.getElementById("find").value = "odd";
      document.getElementById("find").dispatchEvent(new Event("input"));
      document.title = [first, sorted, names().join(), window.failed || "no errors"].join("|");
    });
    </script></body>"""
    watch = "<head><script>window.onerror = text => { window.failed = text; };</script>"
    text = page.read_text(encoding="utf-8").replace("<head>", watch).replace("</body>", script)
    page.write_text(text, encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None and title[1] == "bad|bad|odd|no errors"
