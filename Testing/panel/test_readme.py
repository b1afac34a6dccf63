"""The Python of the README does what it says, word for word, with the shipped model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.errors import Cancelled
from midiffusion.io import read_volume, write_volume
from midiffusion.volume import Volume
from panel.conftest import MODULE, ROOT


def examples() -> list[str]:
    """The README's blocks of Python, in order: Slicer's console, then without Slicer."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def head() -> Volume:
    """Two axial slices of something like a head."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (2, 40, 36)), indexing="ij")
    inside = (k / 1.6) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1
    data = np.where(inside, 500 + 200 * np.sin(7 * i + 3 * j), 0).astype(np.float32)
    return Volume(data, np.diag([-5.0, -5.0, 6.0, 1.0]))


def test_in_slicer_s_console(
    session: Any, handover: Path, addVolume: Callable[..., Any], tmp_path: Path
) -> None:
    import slicer

    session.load(MODULE)
    source = addVolume("Head T1", slices=2)
    addVolume("Head FLAIR", slices=2)
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    write_volume(tmp_path / "in" / "patient.nrrd", head())
    console: dict[str, Any] = {"slicer": slicer}
    exec(examples()[0].replace("/data/", f"{tmp_path.as_posix()}/"), console)

    job, node, batch = console["job"], console["node"], console["batch"]
    session.wait(lambda: job.finished, 60)
    assert isinstance(job.error, Cancelled)
    assert node.GetName() == "Head T1 [synthetic FLAIR]"
    assert node.GetImageData().GetDimensions() == source.GetImageData().GetDimensions()
    assert console["table"].GetNumberOfRows() == 1
    assert [item.state for item in batch.items] == ["done"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["patient_synthetic-FLAIR.nrrd"]
    # The sources, the output given, and that of the batch: a cancelled job leaves none.
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 4
    assert list(handover.iterdir()) == []


def test_without_slicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume(Path("T1.nii.gz"), head())
    exec(examples()[1], {})
    made = read_volume("flair.nii.gz")
    assert made.data.shape == head().data.shape and made.data.std() > 0
