"""docs/performance.md says what the result files say."""

from __future__ import annotations

import json
import shutil

import pytest
from midiffusion_research import performance_document


@pytest.fixture(scope="module")
def maker():
    return performance_document


def test_the_document_is_up_to_date(maker):
    """Otherwise: make performance"""
    assert maker.DOCUMENT.read_text("utf-8") == maker.document(maker.RESULTS)
    shown = maker.digest(maker.RESULTS)
    assert maker.PICTURE.exists() == (shown is not None)
    assert shown is None or shown in maker.PICTURE.read_text("utf-8")


def test_a_changed_figure_changes_the_document(maker, tmp_path):
    for path in maker.RESULTS.glob("lmi_*.json"):
        shutil.copy(path, tmp_path)
    point = {"slices": 16, "size": 128, "seconds": 1.25, "wall_s": 2, "memory_bytes": 3_000_000}
    axis = {"points": [point], "time_exponent": 1.01, "memory_exponent": 0.4}
    speed = {
        "device": "cpu (some, 3 threads)",
        "threads": 3,
        "torch": "9.9",
        "precision": "float32",
        "note": "a note",
        "growth": {"steps": 2, "slices": axis, "size": axis, "bytes_per_slice": 1e6},
    }
    (tmp_path / "speed_some.json").write_text(json.dumps(speed))
    before, drawn = maker.document(tmp_path), maker.digest(tmp_path)
    line = (
        "| cpu (some, 3 threads), float32, PyTorch 9.9; a note | 16 | 128 x 128 | 1.25 | 2.00 | 3 |"
    )
    assert line in before and "time grows to the power 1.01, memory 0.40" in before
    point["seconds"] = 1.5
    (tmp_path / "speed_some.json").write_text(json.dumps(speed))
    assert maker.digest(tmp_path) != drawn
    maker.draw(tmp_path, tmp_path / "growth.svg")
    assert maker.digest(tmp_path) in (tmp_path / "growth.svg").read_text("utf-8")
    after = maker.document(tmp_path)
    assert after == before.replace("| 1.25 |", "| 1.50 |")
    path = sorted(tmp_path.glob("lmi_*.json"))[0]
    report = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**report, "torch": "0.0.0"}), encoding="utf-8")
    assert maker.document(tmp_path) != after


def test_a_section_says_what_was_not_measured(maker, tmp_path):
    source = sorted(maker.RESULTS.glob("lmi_*.json"))[0]
    report = json.loads(source.read_text("utf-8"))
    nothing = _section(maker.document(tmp_path), "LMI against")
    assert "Not measured: on a CPU and on a GPU." in nothing
    (tmp_path / "lmi_gpu.json").write_text(json.dumps({**report, "device": "cuda:0 (GPU)"}))
    section = _section(maker.document(tmp_path), "LMI against")
    assert "cuda:0 (GPU)" in section and "Not measured: on a CPU." in section


def _section(text: str, title: str) -> str:
    return next(part for part in text.split("\n## ") if part.startswith(title))
