"""`make demo` with a model of random weights: every file is there and is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

demo = pytest.importorskip("demo")


def test_the_demo_writes_what_it_promises(tmp_path: Path, tinyModel: Path, capsys: Any) -> None:
    demo.main(str(tinyModel), tmp_path / "out", steps=1)
    said = capsys.readouterr().out
    source = sitk.ReadImage(str(demo.SOURCE))
    for name in ("translated.nrrd", "uncertainty.nrrd"):
        image = sitk.ReadImage(str(tmp_path / "out" / name))
        assert image.GetSize() == source.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), source.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(image.GetSpacing(), source.GetSpacing(), atol=1e-5)
        np.testing.assert_allclose(image.GetDirection(), source.GetDirection(), atol=1e-5)
    for name in ("translated.nrrd", "uncertainty.nrrd", "scene.mrb", "comparison.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000
        assert str(tmp_path / "out" / name) in said
    for words in ("Device cpu", "3 samples", "SSIM", "PSNR", "MAE", "not for diagnosis"):
        assert words in said
