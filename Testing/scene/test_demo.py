"""`make demo`: every file is there and is what it says; with the shipped model, a FLAIR."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import demo
import numpy as np
import pytest
import SimpleITK as sitk
from midiffusion.evaluation import metrics
from midiffusion.intensity import head_mask


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
    for words in ("Device cpu", f"{demo.SAMPLES} samples", "SSIM", "PSNR", "MAE", "diagnosis"):
        assert words in said


def test_the_shipped_model_is_nearer_to_the_real_flair_than_noise(
    tmp_path: Path, flair: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four slices at four evaluations; noise of the real image's mean and deviation."""
    few = tmp_path / "few.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(demo.SOURCE))[:, :, 14:38:6], str(few))
    monkeypatch.setattr(demo, "SOURCE", few)
    demo.main(str(flair), tmp_path / "out", steps=4)
    said = capsys.readouterr().out
    figures = re.search(r"synthetic FLAIR.*\n +after one gain +SSIM ([\d.]+) +PSNR +([\d.]+)", said)
    assert figures is not None, said
    ssim, psnr = map(float, figures.groups())
    real = sitk.GetArrayFromImage(
        demo.inHead(demo.onGridOf(sitk.ReadImage(str(demo.REAL)), sitk.ReadImage(str(few))))
    )
    mask = head_mask(real)
    noise = np.random.default_rng(0).normal(real[mask].mean(), real[mask].std(), real.shape)
    noise *= mask * metrics.best_gain(noise[mask], real[mask])
    noiseSSIM = metrics.ssim_map(noise, real)[mask].mean()
    noisePSNR = metrics.psnr(metrics.mean_squared_error(noise, real, mask))
    assert ssim > noiseSSIM + 0.1
    assert psnr > noisePSNR + 1
