"""The script that checks the module in a real Slicer: its parts, and all of it on the host."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import pytest
from host.views import addViews
from panel.conftest import MODULE, ROOT

SCRIPT = ROOT / "Testing" / "in_slicer" / "check_in_slicer.py"


@pytest.fixture(scope="module")
def script() -> types.ModuleType:
    """The script's namespace, filled as Slicer fills it: by exec() of its text."""
    module = types.ModuleType("check_in_slicer")
    module.__file__ = str(SCRIPT)
    text = SCRIPT.read_bytes().decode("ascii")  # Slicer opens it in whatever encoding is local
    exec(compile(text, str(SCRIPT), "exec"), module.__dict__)
    return module


def test_it_takes_one_folder_or_none(script: types.ModuleType, tmp_path: Path) -> None:
    assert script.outputFolder([], tmp_path) == tmp_path / "out" / "slicer-check"
    assert script.outputFolder([str(tmp_path / "here")], tmp_path) == tmp_path / "here"
    for wrong in (["a", "b"], ["--help"]):
        with pytest.raises(ValueError, match="usage"):
            script.outputFolder(wrong, tmp_path)


def test_it_knows_its_own_tree(script: types.ModuleType, tmp_path: Path) -> None:
    assert script.ROOT == ROOT
    assert script.modulePath(ROOT) == MODULE
    assert script.loadedFrom(MODULE.parent / ".." / MODULE.parent.name / MODULE.name, ROOT)
    assert not script.loadedFrom(tmp_path / MODULE.name, ROOT)


def test_hidden_packages_are_neither_found_nor_imported(script: types.ModuleType) -> None:
    import wave

    with script.hidden("wave", "colorsys_that_is_not_there"):
        assert importlib.util.find_spec("wave") is None
        with pytest.raises(ImportError):
            importlib.import_module("wave")
    assert sys.modules["wave"] is wave
    assert "colorsys_that_is_not_there" not in sys.modules


def test_what_is_installed_is_told_without_importing_it(script: types.ModuleType) -> None:
    with script.hidden("torch", "numpy"):
        told = script.environment(("numpy", "no-such-package"))
    assert told["numpy"][0].isdigit()
    assert told["no-such-package"] == "not installed"
    assert told["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")


def test_the_report_tells_every_outcome(script: types.ModuleType, tmp_path: Path) -> None:
    report = script.Report(tmp_path)
    assert report.status == script.UNUSABLE  # nothing was checked
    with report.check("good"):
        pass
    with report.check("not here"):
        raise unittest.SkipTest("no torch")
    assert report.status == script.PASSED
    with report.check("bad"):
        raise RuntimeError("the reason")
    assert report.status == script.FAILED
    values = json.loads(report.write().read_text("utf-8"))
    assert values["passed"] is False
    assert values["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
    outcomes = {check["name"]: check["outcome"] for check in values["checks"]}
    assert outcomes == {"good": "passed", "not here": "skipped", "bad": "failed"}
    assert "the reason" in values["checks"][2]["detail"]
    assert "no torch" in values["checks"][1]["detail"]


def test_nothing_is_done_outside_testing_mode(
    script: types.ModuleType, session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session.app.setTesting(False)
    assert script.main([str(tmp_path / "report")]) == script.UNUSABLE
    assert "--testing" in capsys.readouterr().err
    assert session.modules == []


def test_a_module_from_elsewhere_fails(
    script: types.ModuleType, session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.load(MODULE)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    assert script.main([str(tmp_path / "report")]) == script.FAILED
    (check,) = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))["checks"]
    assert "take that folder off the module paths" in check["detail"]


@pytest.mark.slow
def test_all_checks_pass_on_the_host(
    script: types.ModuleType, session: Any, handover: Path, tmp_path: Path
) -> None:
    folder, scene = tmp_path / "report", session.scene
    # As the application does after each scene.
    tag = scene.AddObserver(scene.EndCloseEvent, lambda *_: addViews(scene))
    status = script.main([str(folder)])
    scene.RemoveObserver(tag)
    values = json.loads((folder / "report.json").read_text("utf-8"))
    failures = [check["detail"] for check in values["checks"] if check["outcome"] == "failed"]
    assert failures == []
    assert status == script.PASSED
    skipped = [check["name"] for check in values["checks"] if check["outcome"] == "skipped"]
    assert skipped == ["the sample data are offered"]  # the host has no Sample Data module
    assert values["counts"]["passed"] == 8
    assert len(values["pictures"]) == 6
    assert all((folder / name).stat().st_size > 1000 for name in values["pictures"])
    assert session.dialogs == []
    assert list(handover.iterdir()) == []
