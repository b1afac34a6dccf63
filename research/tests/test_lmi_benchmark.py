"""`midiffusion-research lmi` on a slice small enough for a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from midiffusion.errors import InvalidParameter
from midiffusion_research import lmi_benchmark


def test_prints_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmi_benchmark, "CASES", lmi_benchmark.CASES[::3])
    monkeypatch.setattr(lmi_benchmark, "_memory_apart", lambda what, options: 4096)
    target = tmp_path / "lmi.json"
    arguments = ["--size", "24", "--repeats", "1", "--threads", "1", "--json", str(target)]
    assert lmi_benchmark.main(arguments) == 0
    report = json.loads(target.read_text())
    assert report["threads"] == 1 and report["size"] == 24 and report["device"]
    assert [row["case"] for row in report["rows"]] == ["published, 9 windows", "kde, centre only"]
    for row in report["rows"]:
        assert row["own_difference"] < 1e-5
        assert row["faster"] == pytest.approx(row["baseline_seconds"] / row["seconds"])
    text = capsys.readouterr().out
    assert "published, 9 windows" in text and "1 thread" in text and report["device"] in text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_measured_in_a_fresh_process() -> None:
    """The definition's joint densities alone are 64 x 64 x 27 x 27 float32."""
    options = lmi_benchmark._parser().parse_args(["--size", "64", "--threads", "1"])
    rise = lmi_benchmark._memory_apart("0:definition", options)
    assert rise is not None and rise > 64 * 64 * 27 * 27 * 4


@pytest.mark.parametrize(
    ("rise", "ratio"), [(None, None), (-5000, None), (100, None), (1 << 20, 8.0)]
)
def test_less_memory_is_told_where_a_rise_was_seen(rise: int | None, ratio: float | None) -> None:
    assert lmi_benchmark.Row("a", "b", 1.0, 2.0, 0.0, rise, 8 << 20).smaller == ratio


def test_refuses_nonsense() -> None:
    for arguments in (["--size", "8"], ["--repeats", "0"], ["--threads", "0"]):
        with pytest.raises(InvalidParameter):
            lmi_benchmark.main(arguments)
