"""`make demo`: every file is there, and the shipped model is nearer to the real image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import demo
import numpy as np
import pytest
import SimpleITK as sitk


def fewSlices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> sitk.Image:
    """The demo's source, five slices of it."""
    path = folder / "few.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(demo.SOURCE))[:, :, 14:39:6], str(path))
    monkeypatch.setattr(demo, "SOURCE", path)
    return sitk.ReadImage(str(path))


@pytest.mark.slow
def test_demo_writes_its_files_and_the_flair_beats_the_unchanged_source(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fewSlices(tmp_path, monkeypatch)
    demo.main(("flair", "ct"), None, tmp_path / "out")
    printed = capsys.readouterr().out
    for name in ("flair.nrrd", "ct.nrrd", "error_map.nrrd"):
        image = sitk.ReadImage(str(tmp_path / "out" / name))
        assert image.GetSize() == source.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), source.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(image.GetDirection(), source.GetDirection(), atol=1e-5)
    for name in ("comparison.png", "targets.png", "scene.mrb"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000
        assert str(tmp_path / "out" / name) in printed
    errors = [float(x) for x in re.findall(r"MAE ([\d.]+)", printed)]
    assert len(errors) == 2 and errors[0] < errors[1]
    assert "diagnosis" in printed
