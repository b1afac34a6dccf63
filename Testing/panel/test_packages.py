"""Packages that are missing or too old: told, offered, and installed on a click alone."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from midiffusion.errors import DependencyMissing
from panel.conftest import MODULE, ROOT, PanelDriver


class Machine:
    """A computer with some packages, and the two installers."""

    def __init__(
        self, *packages: str, testing: bool = False, fails: str = "", torch: str = "2.1.0"
    ) -> None:
        self.packages, self.testing, self.fails = set(packages), testing, fails
        self.torch = torch
        self.asked: list[str] = []

    def dependencies(self) -> Any:
        from MIDiffusionTranslateLib.setup.packages import Dependencies

        return Dependencies(
            found=lambda name: name in self.packages,
            torchVersion=lambda: self.torch if "torch" in self.packages else None,
            testing=lambda: self.testing,
            torchInstaller=lambda: self,
            ensure=self.ensure,
        )

    def installTorch(
        self, askConfirmation: bool = False, *, torchVersionRequirement: str | None = None
    ) -> object:
        assert askConfirmation
        self.asked.append(f"torch{torchVersionRequirement}")
        if self.fails:
            raise RuntimeError(self.fails)
        self.packages.add("torch")
        self.torch = "2.9.1+cpu"
        return None

    def ensure(self, requirements: Path) -> None:
        assert "safetensors" in requirements.read_text("utf-8")
        self.asked.append("requirements")
        self.packages.add("safetensors")


def test_missing_packages_are_offered_and_installed_on_a_click(ready: PanelDriver) -> None:
    machine = Machine()
    ready.panel.packages = machine.dependencies()
    ready.panel.refresh()
    ready.assertDisabled("Nothing is installed by itself: click Install and agree")
    assert ready.ui.installButton.visible
    assert machine.asked == []
    ready.ui.installButton.click()
    assert machine.asked == ["torch>=2.1", "requirements"]
    assert ready.status == "Everything needed is installed."
    assert not ready.ui.installButton.visible
    assert ready.ui.translateButton.enabled


def test_an_installation_that_fails(ready: PanelDriver) -> None:
    ready.panel.packages = Machine(fails="no network").dependencies()
    ready.panel.refresh()
    ready.ui.installButton.click()
    assert "The installation did not succeed (no network)" in ready.status
    assert ready.ui.installButton.visible
    ready.assertDisabled("Not installed yet")


def test_nothing_is_installed_in_testing_mode() -> None:
    machine = Machine(testing=True)
    with pytest.raises(DependencyMissing, match="testing mode"):
        machine.dependencies().install()
    assert machine.asked == []


def test_a_declined_installation() -> None:
    machine = Machine("safetensors")
    machine.installTorch = lambda ask, **_: None  # type: ignore[method-assign]
    with pytest.raises(DependencyMissing, match="Not installed: torch"):
        machine.dependencies().install()


def _dependencies(monkeypatch: pytest.MonkeyPatch, failure: str) -> Any:
    """With torch and nothing else, where Slicer's own installation ends in this failure."""
    from MIDiffusionTranslateLib.setup.packages import Dependencies

    def fail(requirements: object, requester: str) -> None:
        raise RuntimeError(failure)

    packaging = types.ModuleType("slicer.packaging")
    packaging.load_requirements = Path.read_text  # type: ignore[attr-defined]
    packaging.pip_ensure = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    return Dependencies(found=lambda name: name == "torch", testing=lambda: False)


def test_a_declined_question_of_slicer_s_pip_is_no_fault(
    session: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dependencies = _dependencies(monkeypatch, "User declined package installation")
    with pytest.raises(DependencyMissing, match="Not installed: safetensors. Click Install when"):
        dependencies.install()
    assert caplog.records == []


def test_a_failure_of_slicer_s_pip_is_one(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dependencies = _dependencies(monkeypatch, "no wheel")
    with pytest.raises(DependencyMissing, match="did not succeed .no wheel"):
        dependencies.install()


def test_a_torch_that_is_too_old_is_told_and_replaced(ready: PanelDriver) -> None:
    machine = Machine("torch", "safetensors", torch="2.0.1+cu118")
    ready.panel.packages = machine.dependencies()
    ready.panel.refresh()
    ready.assertDisabled("PyTorch 2.1 or later (version 2.0.1+cu118 is too old")
    assert ready.ui.installButton.visible
    ready.ui.installButton.click()
    assert machine.asked == ["torch>=2.1"]
    assert ready.status == "Everything needed is installed."
    assert ready.ui.translateButton.enabled


@pytest.mark.parametrize(
    ("version", "old"),
    [("1.13.1", True), ("2.1.0a0", False), ("2.10.0", False), ("10.0", False), ("git", False)],
)
def test_versions_of_torch(version: str, old: bool) -> None:
    machine = Machine("torch", "safetensors", torch=version)
    assert machine.dependencies().missing() == (["torch"] if old else [])


def test_the_version_of_torch_is_that_of_its_metadata(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MIDiffusionTranslateLib.setup.packages import Dependencies

    folder = tmp_path / "torch-1.12.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.12.0\n")
    assert "torch" not in Dependencies().missing()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "torch" in Dependencies().missing()


def test_without_the_pytorch_extension(session: Any) -> None:
    from MIDiffusionTranslateLib.setup.packages import Dependencies

    dependencies = Dependencies(found=lambda name: False, testing=lambda: False)
    with pytest.raises(DependencyMissing, match="Extensions Manager"):
        dependencies.install()


def test_the_panel_opens_without_torch(tmp_path: Path) -> None:
    """In a process that can't import torch or anything else beside Slicer's own packages."""
    script = f"""
import sys
import types
import urllib.parse
import urllib.request
for name in ("torch", "safetensors", "SimpleITK", "scipy", "PIL", "matplotlib", "skimage"):
    sys.modules[name] = None
sys.path[:0] = [{str(ROOT / "Testing")!r}, {str(MODULE.parent)!r}]
import host
session = host.start({str(tmp_path)!r})
representation = session.load({str(MODULE)!r}).widgetRepresentation()
representation.enter()
ui = representation.self().ui
assert ui.installButton.visible or not ui.installButton.isHidden()
print(ui.translateButton.toolTip)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if "No model was found" not in done.stdout:
        assert "PyTorch" in done.stdout
