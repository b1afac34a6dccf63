"""The Python of the README does what it says, word for word, with the shipped model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume
from panel.conftest import MODULE, ROOT


def examples() -> list[str]:
    """The README's blocks of Python, in order: without Slicer, then Slicer's console."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def head() -> Volume:
    """Two axial slices of something like a head."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (2, 40, 36)), indexing="ij")
    inside = (k / 1.6) ** 2 + (j / 0.9) ** 2 + (i / 0.8) ** 2 < 1
    data = np.where(inside, 500 + 200 * np.sin(7 * i + 3 * j), 0).astype(np.float32)
    return Volume(data, np.diag([-5.0, -5.0, 6.0, 1.0]))


def test_without_slicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume(Path("T1.nii.gz"), head())
    exec(examples()[0], {})
    made = read_volume("flair.nii.gz")
    assert made.data.shape == head().data.shape and made.data.std() > 0


def test_in_slicer_s_console(session: Any, addVolume: Callable[..., Any]) -> None:
    import slicer

    session.load(MODULE)
    source = addVolume("Head T1", slices=2)
    console: dict[str, Any] = {"slicer": slicer}
    exec(examples()[1], console)
    node = console["node"]
    assert node.GetName() == "Synthetic FLAIR of Head T1"
    assert node.GetImageData().GetDimensions() == source.GetImageData().GetDimensions()
