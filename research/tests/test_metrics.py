"""Metrics against scikit-image, scipy, brute force and cases known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from midiffusion_research import bootstrap, metrics
from midiffusion_research.lesions import deep_tissue, lesion_figures
from scipy import ndimage, optimize
from skimage.metrics import (
    normalized_mutual_information,
    peak_signal_noise_ratio,
    structural_similarity,
)


@pytest.fixture
def pair():
    random = np.random.default_rng(1)
    first = ndimage.gaussian_filter(random.random((3, 33, 40)), (0, 2, 2)) * 2 - 0.5
    return first, first + 0.1 * random.standard_normal(first.shape)


def test_ssim_agrees_with_scikit_image_everywhere(pair):
    ours = metrics.ssim_map(*pair)
    for s in range(3):
        mean, theirs = structural_similarity(pair[0][s], pair[1][s], data_range=1.0, full=True)
        np.testing.assert_allclose(ours[s], theirs, atol=1e-10)
        assert metrics.interior(ours[s]).mean() == pytest.approx(mean, abs=1e-10)


def test_ssim_of_float32_stays_accurate_on_a_bright_plateau():
    plateau = np.full((1, 64, 64), 0.9, dtype=np.float32)
    np.testing.assert_allclose(metrics.ssim_map(plateau, plateau), 1.0, atol=1e-12)


def test_ssim_refuses_what_the_window_does_not_fit():
    with pytest.raises(ValueError, match="window"):
        metrics.ssim_map(np.zeros((1, 6, 40)), np.zeros((1, 6, 40)))
    with pytest.raises(ValueError, match="shapes"):
        metrics.ssim_map(np.zeros((1, 8, 8)), np.zeros((2, 8, 8)))


def test_psnr_and_errors(pair):
    first, second = pair
    mse = metrics.mean_squared_error(first, second)
    assert metrics.psnr(mse) == pytest.approx(peak_signal_noise_ratio(first, second, data_range=1))
    assert metrics.psnr(0.0) == math.inf
    mask = np.zeros(first.shape, dtype=bool)
    mask[1, 4, 5] = mask[2, 6, 7] = True
    by_hand = [first[1, 4, 5] - second[1, 4, 5], first[2, 6, 7] - second[2, 6, 7]]
    squared = metrics.mean_squared_error(first, second, mask)
    assert squared == pytest.approx((by_hand[0] ** 2 + by_hand[1] ** 2) / 2)
    absolute = metrics.mean_absolute_error(first, second, mask)
    assert absolute == pytest.approx((abs(by_hand[0]) + abs(by_hand[1])) / 2)


def test_gradient_distance_is_the_cheapest_way_to_move_one_heap_of_steps_onto_the_other(pair):
    first, second = (image[0, :7, :6] for image in pair)
    mask = np.random.default_rng(2).random(first.shape) < 0.6
    heaps = []
    for image in (first, second):
        heap = []
        for r, c in np.argwhere(mask):
            down = image[r + 1, c] - image[r, c] if r < 6 else 0.0
            right = image[r, c + 1] - image[r, c] if c < 5 else 0.0
            heap.append(math.sqrt(down**2 + right**2))
        heaps.append(np.array(heap))
    costs = np.abs(heaps[0][:, None] - heaps[1])
    rows, columns = optimize.linear_sum_assignment(costs)
    expected = costs[rows, columns].mean()
    assert metrics.gradient_distance(first, second, mask) == pytest.approx(expected)


def test_gradient_distance_grows_with_blur_and_with_noise_and_knows_no_place():
    random = np.random.default_rng(3)
    real = ndimage.gaussian_filter(random.random((32, 32)), 1)
    everywhere = np.ones(real.shape, dtype=bool)

    def distance(image):
        return metrics.gradient_distance(image, real, everywhere)

    blurred = [distance(ndimage.gaussian_filter(real, width)) for width in (0.5, 1, 2)]
    noisy = [distance(real + level * random.standard_normal(real.shape)) for level in (0.02, 0.1)]
    assert distance(real) == 0 < blurred[0] < blurred[1] < blurred[2] and noisy[0] < noisy[1]
    framed = np.pad(real, 4)  # moved within its frame it has the same steps elsewhere
    moved = np.roll(framed, (2, -3), axis=(0, 1))
    assert metrics.gradient_distance(moved, framed, framed >= 0) == pytest.approx(0, abs=1e-12)


def test_best_gain_is_the_least_squares_one(pair):
    first, second = pair
    solution = np.linalg.lstsq(first.reshape(-1, 1), second.ravel(), rcond=None)[0]
    assert metrics.best_gain(first, second) == pytest.approx(solution[0])
    assert metrics.best_gain(np.zeros(3), np.ones(3)) == 1.0


def _brute_force_information(first, second, bins):
    """I and (H1 + H2) / H12 by counting pixel pairs one at a time."""
    joint: dict[tuple[int, int], int] = {}
    for a, b in zip(first.ravel(), second.ravel(), strict=True):
        key = tuple(min(bins - 1, max(0, math.floor(v * bins))) for v in (a, b))
        joint[key] = joint.get(key, 0) + 1
    total = sum(joint.values())
    rows: dict[int, int] = {}
    columns: dict[int, int] = {}
    for (a, b), n in joint.items():
        rows[a] = rows.get(a, 0) + n
        columns[b] = columns.get(b, 0) + n
    information = sum(
        n / total * math.log(n * total / (rows[a] * columns[b])) for (a, b), n in joint.items()
    )

    def entropy(counts):
        return -sum(n / total * math.log(n / total) for n in counts)

    return information, (entropy(rows.values()) + entropy(columns.values())) / entropy(
        joint.values()
    )


def test_mutual_information_agrees_with_brute_force(pair):
    information, normalised = _brute_force_information(*pair, bins=64)
    assert metrics.mutual_information(*pair) == pytest.approx(information)
    assert metrics.normalised_mutual_information(*pair) == pytest.approx(normalised)
    # scikit-image spreads its bins over the range of each image: here the same one.
    full = [(image - image.min()) / np.ptp(image) for image in pair]
    theirs = normalized_mutual_information(*full, bins=64)
    assert metrics.normalised_mutual_information(*full) == pytest.approx(theirs)


def test_mutual_information_of_limiting_cases():
    halves = np.repeat([0.2, 0.8], 50)
    assert metrics.mutual_information(halves, 1 - halves) == pytest.approx(math.log(2))
    assert metrics.normalised_mutual_information(halves, 1 - halves) == pytest.approx(2)
    unrelated = np.tile([0.2, 0.8], 50)
    assert metrics.mutual_information(halves, unrelated) == pytest.approx(0, abs=1e-12)
    assert metrics.normalised_mutual_information(np.zeros(9), np.zeros(9)) == 1


def test_flicker_tells_flicker_from_blur():
    smooth = np.linspace(0, 1, 9)[:, None, None] ** 2 * np.ones((9, 8, 8))
    alternating = smooth + 0.1 * (-1.0) ** np.arange(9)[:, None, None]
    bend = 2 / 64
    assert metrics.roughness(smooth) == pytest.approx(bend)
    # Second difference of +-0.1 is -+0.4, which outweighs the bend on every other slice.
    assert metrics.flicker(alternating, smooth) == pytest.approx(0.4 / bend, rel=0.05)
    assert metrics.flicker(0.5 * smooth, smooth) == pytest.approx(0.5)
    assert math.isnan(metrics.flicker(smooth[:2], smooth[:2]))
    assert math.isnan(metrics.flicker(smooth, np.zeros_like(smooth)))


def test_flicker_looks_inside_the_mask_only():
    stack = np.zeros((3, 8, 8))
    mask = np.ones(stack.shape, dtype=bool)
    stack[1, 2, 2] = 1
    mask[0, 2, 2] = False
    assert metrics.roughness(stack, mask) == 0
    assert metrics.roughness(stack) == pytest.approx(2 / 64)
    assert math.isnan(metrics.roughness(stack, np.zeros_like(mask)))


@pytest.mark.parametrize("kept", [0.0, 0.6, 1.0])
def test_texture_continuity_is_the_correlation_put_in(kept):
    """Whatever the brightness of the slices and their number does."""
    random = np.random.default_rng(0)
    stack = random.standard_normal((12, 40, 40))
    for above, below in zip(stack[1:], stack[:-1], strict=True):
        above[:] = kept * below + math.sqrt(1 - kept**2) * above
    mask = np.zeros(stack.shape, dtype=bool)
    mask[:, 3:-3, 3:-3] = True
    stack += random.standard_normal((12, 1, 1))
    assert metrics.texture_continuity(stack, mask) == pytest.approx(kept, abs=0.03)
    assert math.isnan(metrics.texture_continuity(stack[:1], mask[:1]))
    assert math.isnan(metrics.texture_continuity(np.ones_like(stack), mask))


@pytest.mark.parametrize("radius", [1, 3])
def test_morphology_agrees_with_scipy_away_from_the_border(radius):
    mask = np.zeros((1, 40, 40), dtype=bool)
    mask[0, 10:25, 12:30] = True
    mask[0, 15:17, 20:23] = False
    square = np.ones((1, 2 * radius + 1, 2 * radius + 1))
    np.testing.assert_array_equal(
        metrics.dilate(mask, radius), ndimage.binary_dilation(mask, square)
    )
    np.testing.assert_array_equal(metrics.erode(mask, radius), ndimage.binary_erosion(mask, square))


def test_interval_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        found = bootstrap.interval(random.standard_normal(30).tolist(), seed=trial)
        covered += found.low <= 0 <= found.high
    assert 175 <= covered <= 199  # 95 % nominal, the percentile bootstrap is a little short


def test_interval_is_reproducible_and_leaves_out_missing_figures():
    values = [1.0, 2.0, float("nan"), 6.0]
    found = bootstrap.interval(values)
    assert found == bootstrap.interval([1.0, 2.0, 6.0])
    assert found.value == 3 and found.low < 3 < found.high
    assert math.isnan(bootstrap.interval([float("nan")]).value)


@pytest.fixture
def lesion():
    head = np.zeros((2, 128, 128), dtype=bool)
    head[:, 14:114, 14:114] = True
    tumour = np.zeros_like(head)
    tumour[0, 50:60, 50:60] = True
    target = np.where(head, 0.3, 0.0)
    target[tumour] = 0.8
    return head, tumour, target


def test_lesion_figures_of_a_perfect_and_of_a_blind_translation(lesion):
    head, tumour, target = lesion
    perfect = lesion_figures(target, target, head, tumour)
    assert perfect["lesion_contrast"] == pytest.approx(0.5)
    assert perfect["lesion_contrast_real"] == pytest.approx(0.5)
    assert perfect["lesion_mae"] == perfect["false_hyperintense"] == 0
    blind = lesion_figures(np.where(head, 0.3, 0.0), target, head, tumour)
    assert blind["lesion_contrast"] == pytest.approx(0)
    assert blind["lesion_mae"] == pytest.approx(0.5)


def test_invented_brightness_counts_in_deep_tissue_alone(lesion):
    head, tumour, target = lesion
    output = target.copy()
    output[1, 80:90, 80:90] = 0.9  # invented: 100 pixels
    output[:, 14:20, 14:114] = 0.9  # scalp: does not count
    output[0, 61, 50:60] = 0.9  # beside the tumour: does not count
    deep = deep_tissue(head)
    assert deep.sum() == 2 * 84 * 84
    healthy = 2 * 84 * 84 - 16 * 16
    found = lesion_figures(output, target, head, tumour)["false_hyperintense"]
    assert found == pytest.approx(100 / healthy)


def test_no_tumour_no_figures(lesion):
    head, tumour, target = lesion
    assert lesion_figures(target, target, head, np.zeros_like(tumour)) == {}
