"""Comparison of a synthetic volume with a real one, against scikit-image and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.compare import compare
from midiffusion.errors import InvalidVolume
from midiffusion.images.intensity import HounsfieldIntensity, PercentileIntensity
from midiffusion.images.volume import Volume
from skimage.metrics import structural_similarity

MR = PercentileIntensity()
GEOMETRY = np.array([[-2.0, 0, 0, 40], [0, -2, 0, 50], [0, 0, 5, -20], [0, 0, 0, 1]])
SHAPE = (6, 40, 36)


def inside(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    ellipse: np.ndarray = (j / 0.9) ** 2 + (i / 0.8) ** 2 + 0 * k < 1
    return ellipse


def real(seed: int = 0) -> np.ndarray:
    """A head of grey values between 0.3 and 1 whose 99.5th percentile is 1; air at 0."""
    texture = np.random.default_rng(seed).uniform(0.3, 1.0, SHAPE)
    return np.where(inside(), np.minimum(texture / np.percentile(texture[inside()], 99.5), 1), 0)


def synthetic(data: np.ndarray) -> Volume:
    """As a model's result: 1 in model units is 1000."""
    return Volume((1000 * data).astype(np.float32), GEOMETRY)


def test_figures_are_those_of_scikit_image_inside_the_head() -> None:
    target, output = real(0), 0.8 * real(0) + 0.15 * real(1)
    found = compare(synthetic(output), Volume(7 * target, GEOMETRY), MR)  # any gain
    ssim, psnr, mae = [], [], []
    for a, b, head in zip(output, target, inside(), strict=True):
        _, image = structural_similarity(a, b, data_range=1.0, full=True)
        ssim.append(image[head].mean())
        psnr.append(-10 * np.log10(((a - b)[head] ** 2).mean()))
        mae.append(np.abs(a - b)[head].mean())
    assert found.ssim == pytest.approx(np.mean(ssim), abs=2e-3)
    assert found.psnr == pytest.approx(np.mean(psnr), abs=0.05)
    assert found.mae == pytest.approx(np.mean(mae), abs=1e-3)
    assert found.mae_hu is None
    assert found.covered == 1.0


def test_the_output_is_never_fitted_to_the_reference() -> None:
    reference = Volume(real(), GEOMETRY)
    assert compare(synthetic(real()), reference, MR).mae == pytest.approx(0, abs=1e-3)
    half = compare(synthetic(0.5 * real()), reference, MR)
    assert half.mae == pytest.approx(0.5 * real()[inside()].mean(), abs=0.01)


def test_only_the_place_of_a_voxel_counts_not_its_index() -> None:
    output, target = synthetic(0.8 * real(0) + 0.15 * real(1)), real(0)
    plain = compare(output, Volume(target, GEOMETRY), MR)
    # i and k exchanged, j reversed, and the matrix with them.
    turned = np.transpose(target, (2, 1, 0))[:, ::-1]
    matrix = GEOMETRY[:, [2, 1, 0, 3]].copy()
    matrix[:, 3] += matrix[:, 1] * (SHAPE[1] - 1)
    matrix[:, 1] *= -1
    again = compare(output, Volume(turned, matrix), MR)
    assert again.ssim == pytest.approx(plain.ssim, abs=1e-4)
    assert again.mi == pytest.approx(plain.mi, abs=1e-3)
    # The same for the result: its slices need not be its first axis.
    result = Volume(np.transpose(output.data, (2, 1, 0)), GEOMETRY[:, [2, 1, 0, 3]])
    assert compare(result, Volume(target, GEOMETRY), MR).ssim == pytest.approx(plain.ssim, abs=1e-4)


def test_a_finer_reference_is_averaged() -> None:
    target = real()
    noise = np.random.default_rng(3).uniform(-0.2, 0.2, SHAPE) * inside()
    fine = np.repeat(np.repeat(target, 2, axis=1), 2, axis=2)
    fine[:, ::2, ::2] += noise
    fine[:, 1::2, 1::2] -= noise  # whose mean over a voxel is that of `target`
    matrix = GEOMETRY @ np.diag([0.5, 0.5, 1, 1])
    matrix[:3, 3] -= GEOMETRY[:3, :2].sum(axis=1) / 4
    found = compare(synthetic(target), Volume(fine, matrix), MR)
    # The brightest half percent of single points is brighter than that of means: one gain.
    assert found.ssim > 0.97
    beside = compare(synthetic(target), Volume(fine[:, ::2, ::2], GEOMETRY), MR)
    assert beside.ssim < found.ssim - 0.05


def test_volumes_that_do_not_overlap() -> None:
    far = GEOMETRY.copy()
    far[0, 3] += 500
    with pytest.raises(InvalidVolume, match="don't overlap .* register it first"):
        compare(synthetic(real()), Volume(real(), far), MR)


def test_what_the_reference_covers_is_said_and_all_that_counts() -> None:
    output = real()
    output[3:] = 0.5 * output[3:]
    found = compare(synthetic(output), Volume(real()[:3], GEOMETRY), MR)
    assert found.covered == pytest.approx(0.5, abs=0.01)
    assert found.mae == pytest.approx(0, abs=0.01)


def test_ct_is_in_hounsfield_units() -> None:
    target = np.where(inside(), 800 * real(), -1000)
    output = np.where(inside(), target + 100, target)
    found = compare(Volume(output, GEOMETRY), Volume(target, GEOMETRY), HounsfieldIntensity())
    assert found.mae_hu == pytest.approx(100, abs=0.5)
    assert found.mae == pytest.approx(100 / 3060, abs=1e-3)


def test_slices_too_small_for_the_window_are_told() -> None:
    small = Volume(1000 * real()[:, 15:20, 10:25], GEOMETRY)
    with pytest.raises(InvalidVolume, match="15 x 5 voxels, and 7 x 7 are needed"):
        compare(small, Volume(real(), GEOMETRY), MR)


def test_what_the_listener_raises_ends_it() -> None:
    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt(f"{done} of {of}")

    with pytest.raises(KeyboardInterrupt, match="1 of 6"):
        compare(synthetic(real()), Volume(real(), GEOMETRY), MR, stop)
