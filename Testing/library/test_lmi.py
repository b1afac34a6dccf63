"""The estimators kde and shannon against loops over pixels and samples, and their properties."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from midiffusion.errors import InvalidParameter
from midiffusion.lmi import LocalMutualInformation
from midiffusion.lmi.definition import definition

BOTH = pytest.mark.parametrize("estimator", ["kde", "shannon"])
SEARCH = pytest.mark.parametrize("search", ["none", "shift"])


def images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two related images, a little outside [0, 1] in places."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(shape, generator=generator, dtype=torch.float64) * 1.1 - 0.05
    v = 0.8 * (1 - u) ** 2 + 0.1 * torch.rand(shape, generator=generator, dtype=torch.float64)
    return u, v


def patch(image: np.ndarray, y: int, x: int, size: int, dilation: int) -> list[float]:
    reach = size // 2
    steps = [k * dilation for k in range(-reach, reach + 1)]
    height, width = image.shape
    return [
        float(image[min(max(y + a, 0), height - 1), min(max(x + b, 0), width - 1)])
        for a in steps
        for b in steps
    ]


def kde_entropies(p: list[float], q: list[float], h: float, w: float) -> tuple[float, ...]:
    n = len(p)

    def kernel(a: float, b: float, width: float) -> float:
        return math.exp(-((a - b) ** 2) / (2 * width**2))

    totals = [0.0, 0.0, 0.0]
    for i in range(n):
        g = [kernel(p[i], p[j], h) for j in range(n)]
        k = [kernel(q[i], q[j], w) for j in range(n)]
        totals[0] -= math.log(sum(g) / n) / n
        totals[1] -= math.log(sum(k) / n) / n
        totals[2] -= math.log(sum(a * b for a, b in zip(g, k, strict=True)) / n) / n
    return tuple(totals)


def shannon_entropies(p: list[float], q: list[float], h: float, w: float) -> tuple[float, ...]:
    def spread(value: float, width: float) -> np.ndarray:
        if value > 1:
            value = 1 + width * (1 - math.exp(-(value - 1) / width))
        if value < 0:
            value = -width * (1 - math.exp(value / width))
        mass = np.array([math.exp(-((value - b / 26) ** 2) / (2 * width**2)) for b in range(27)])
        return mass / mass.sum()

    joint = np.zeros((27, 27))
    for a, b in zip(p, q, strict=True):
        joint += np.outer(spread(a, h), spread(b, w)) / len(p)

    def entropy(density: np.ndarray) -> float:
        return -sum(x * math.log(x) for x in density.ravel() if x > 0)

    return entropy(joint.sum(1)), entropy(joint.sum(0)), entropy(joint)


def oracle(
    estimator: str,
    u: np.ndarray,
    v: np.ndarray,
    size: int = 3,
    dilation: int = 1,
    h: float = 0.04,
    sigma: float = 0.0,
    search: str = "none",
    normalised: bool = True,
) -> np.ndarray:
    entropies = {"kde": kde_entropies, "shannon": shannon_entropies}[estimator]
    shifts = list(itertools.product((-1, 0, 1), repeat=2)) if search == "shift" else [(0, 0)]
    result = np.full(u.shape, -np.inf)
    border = np.pad(v, size * dilation, mode="edge")
    for (y, x), (dy, dx) in itertools.product(np.ndindex(u.shape), shifts):
        moved = patch(border, y + dy + size * dilation, x + dx + size * dilation, size, dilation)
        h_u, h_v, h_joint = entropies(
            patch(u, y, x, size, dilation), moved, h, math.sqrt(h**2 + sigma**2)
        )
        information = max(h_u + h_v - h_joint, 0.0)
        if normalised:
            information = 2 * information / (h_u + h_v) if h_u + h_v > 0 else 0.0
        result[y, x] = max(result[y, x], information)
    return result


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalised": False, "h": 0.12, "dilation": 2},
        {"search": "shift", "dilation": 2},
        {"size": 5, "h": 0.1},
        {"sigma": 0.3},
        {"sigma": 0.1, "search": "shift", "normalised": False},
    ],
    ids=str,
)
def test_agrees_with_loops(estimator: str, options: dict) -> None:
    u, v = images(1, 1, 5, 6)
    layer = LocalMutualInformation(
        estimator,
        size=options.get("size", 3),
        dilations=(options.get("dilation", 1),),
        bandwidths=(options.get("h", 0.04),),
        search=options.get("search", "none"),
        normalised=options.get("normalised", True),
    )
    sigma = torch.tensor([options["sigma"]]) if "sigma" in options else None
    expected = oracle(estimator, u[0, 0].numpy(), v[0, 0].numpy(), **options)
    for dtype in (torch.float64, torch.float32):
        found = layer(u.to(dtype), v.to(dtype), sigma)
        assert found.dtype == dtype
        np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-5)


@BOTH
@SEARCH
def test_batch_scales_and_odd_sizes(estimator: str, search: str) -> None:
    """Each channel of each slice is what its scale alone gives, dilation by dilation."""
    dilations, bandwidths = (1, 3), (0.05, 0.2)
    layer = LocalMutualInformation(
        estimator, dilations=dilations, bandwidths=bandwidths, search=search
    )
    for height, width in ((1, 1), (2, 7), (13, 5)):
        u, v = images(3, 1, height, width)
        sigma = torch.tensor([0.0, 0.2, 1.0])
        found = layer(u, v, sigma)
        assert found.shape == (3, layer.channels, height, width)
        scales = list(itertools.product(dilations, bandwidths))
        for b, (c, (dilation, h)) in itertools.product(range(3), enumerate(scales)):
            expected = definition(
                estimator,
                u[b, 0],
                v[b, 0],
                dilation=dilation,
                bandwidth=h,
                search=search,
                sigma_v=float(sigma[b]),
            )
            torch.testing.assert_close(found[b, c], expected, atol=1e-6, rtol=0)


@BOTH
def test_tiles_do_not_show(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    u, v = images(3, 1, 9, 11)
    layer = LocalMutualInformation(estimator, dilations=(2,), search="shift")
    whole = layer(u, v)
    for pixels in (1, 25, 220):
        monkeypatch.setattr(f"midiffusion.lmi.{estimator}.TILE_PIXELS", pixels)
        torch.testing.assert_close(layer(u, v), whole, atol=1e-12, rtol=0)


@BOTH
@SEARCH
@pytest.mark.parametrize("widened", [False, True])
def test_gradients(estimator: str, search: str, widened: bool) -> None:
    u, v = images(2, 1, 4, 3)
    sigma = torch.tensor([0.05, 0.4], dtype=torch.float64) if widened else None
    layer = LocalMutualInformation(estimator, bandwidths=(0.15,), search=search)
    u.requires_grad_()
    v.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: layer(a, b, sigma), (u, v))


@BOTH
def test_gradient_of_self_information(estimator: str) -> None:
    u, _ = images(1, 1, 4, 4)
    layer = LocalMutualInformation(estimator, bandwidths=(0.15,))
    assert torch.autograd.gradcheck(lambda a: layer(a, a), (u.requires_grad_(),))


@BOTH
def test_gradient_of_flat_and_distant_patches_is_finite(estimator: str) -> None:
    u = torch.zeros(1, 1, 6, 6)
    u[..., 3:, :] = 100.0
    u.requires_grad_()
    LocalMutualInformation(estimator)(u, u.flip(-1) * 0.5).sum().backward()
    assert u.grad is not None and torch.isfinite(u.grad).all()


@BOTH
@pytest.mark.parametrize("normalised", [False, True])
def test_symmetric_without_search(estimator: str, normalised: bool) -> None:
    u, v = images(2, 1, 8, 9)
    layer = LocalMutualInformation(estimator, normalised=normalised)
    torch.testing.assert_close(layer(u, v), layer(v, u), atol=1e-12, rtol=0)


@BOTH
def test_search_shifts_the_second_image(estimator: str) -> None:
    """A copy moved by one pixel is found again; the first image is not searched."""
    u, _ = images(1, 1, 10, 10)
    moved = u.roll((1, -1), (2, 3))
    layer = LocalMutualInformation(estimator, search="shift", normalised=False)
    inside = (..., slice(2, -2), slice(2, -2))
    at_home = LocalMutualInformation(estimator, normalised=False)(u, u)
    assert (layer(u, moved)[inside] >= at_home[inside] - 1e-12).all()
    assert not torch.allclose(layer(u, moved), layer(moved, u))


@BOTH
@SEARCH
def test_constant_patches_share_nothing(estimator: str, search: str) -> None:
    u, v = images(1, 1, 9, 9)
    v[...] = 0.37
    u[..., :5, :5] = 0.2
    layer = LocalMutualInformation(estimator, search=search)
    for dtype in (torch.float32, torch.float64):
        a, b = u.to(dtype), v.to(dtype)
        assert layer(a, b).abs().max() < 1e-6
        assert layer(b, b).abs().max() < 1e-6
    if estimator == "kde":
        assert layer(u, v).abs().max() == 0


@BOTH
def test_nearly_flat_patches_keep_their_digits(estimator: str) -> None:
    """In float32, rounding must not look like structure."""
    u, _ = images(1, 1, 8, 8)
    faint = 0.5 + 1e-4 * u
    layer = LocalMutualInformation(estimator, bandwidths=(0.04,))
    expected = layer(faint.float().double(), faint.float().double())
    torch.testing.assert_close(
        layer(faint.float(), faint.float()).double(), expected, atol=1e-5, rtol=0
    )
    assert expected.max() < 1e-3


@BOTH
def test_inverted_contrast_changes_nothing(estimator: str) -> None:
    """Exactly: differences keep their size, and the bins are symmetric about 1/2."""
    u, v = images(2, 1, 7, 8)
    layer = LocalMutualInformation(estimator, dilations=(1, 2), search="shift")
    expected = layer(u, v)
    for a, b in ((1 - u, v), (u, 1 - v), (1 - u, 1 - v)):
        torch.testing.assert_close(layer(a, b), expected, atol=1e-9, rtol=0)


def test_kde_knows_differences_alone() -> None:
    """Shifted intensities change nothing; scaled ones nothing if the kernel is scaled too."""
    u, v = images(1, 1, 7, 8)
    expected = LocalMutualInformation("kde", bandwidths=(0.05,))(u, v)
    shifted = LocalMutualInformation("kde", bandwidths=(0.05,))(u + 7, v - 3)
    scaled = LocalMutualInformation("kde", bandwidths=(0.15,))(3 * u, 3 * v)
    torch.testing.assert_close(shifted, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(scaled, expected, atol=1e-9, rtol=0)


@BOTH
@SEARCH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_does_not_saturate_under_noise(estimator: str, search: str, dtype: torch.dtype) -> None:
    """The reference reaches its maximum where the noisy patch leaves the bins; these must not."""
    u, _ = images(1, 1, 24, 24)
    u = u.clamp(0, 1)
    noise = torch.randn(u.shape, generator=torch.Generator().manual_seed(3), dtype=u.dtype)
    layer = LocalMutualInformation(estimator, search=search)
    for sigma in (0.5, 2.0, 10.0, 100.0, 1e4):
        x = u + sigma * noise
        blind = layer(u.to(dtype), x.to(dtype))
        told = layer(u.to(dtype), x.to(dtype), torch.tensor([sigma]))
        for found in (blind, told):
            assert torch.isfinite(found).all()
            assert found.min() >= 0 and found.max() <= 1
            # At the border, repeated samples are equal in both images: shared structure.
            assert found[..., 1:-1, 1:-1].max() < 0.999
        assert told.max() < 0.95
        assert told.mean() < 0.6 * blind.mean()


def test_shannon_stays_below_its_maximum_with_both_images_far_out() -> None:
    generator = torch.Generator().manual_seed(4)
    layer = LocalMutualInformation("shannon")
    for scale in (3.0, 100.0, 1e6):
        u, v = scale * torch.randn(2, 1, 1, 20, 20, generator=generator)
        for found in (layer(u, v), layer(u, u), layer(u, -u)):
            assert torch.isfinite(found).all() and found.max() < 0.9


@BOTH
@SEARCH
def test_responses_stand_in_for_the_first_image(estimator: str, search: str) -> None:
    u, v = images(3, 1, 9, 8)
    sigma = torch.tensor([0.0, 0.1, 0.5])
    layer = LocalMutualInformation(
        estimator, dilations=(1, 2), bandwidths=(0.04, 0.1), search=search
    )
    known = layer.responses(u)
    for arguments in ((v,), (v, sigma), (u,)):
        expected = layer(u, *arguments)
        torch.testing.assert_close(layer(known, *arguments), expected, atol=1e-9, rtol=0)
    some = slice(1, 3)
    torch.testing.assert_close(
        layer(known.select(some), v[some], sigma[some]), layer(u, v, sigma)[some]
    )


@BOTH
def test_normalised_information_lies_in_the_unit_interval(estimator: str) -> None:
    u, v = images(2, 1, 16, 16)
    layer = LocalMutualInformation(estimator, dilations=(1, 4), search="shift")
    for found in (layer(u, v), layer(u, u)):
        assert found.min() >= 0 and found.max() <= 1


@BOTH
@pytest.mark.parametrize("gradient", [False, True])
def test_no_joint_histogram_outlives_its_tile(estimator: str, gradient: bool) -> None:
    """No tensor, kept or passing, is of the size of all joint densities."""
    u, v = images(1, 1, 40, 40)
    limit = u.numel() * 27 * 27 // 4
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    layer = LocalMutualInformation(estimator)
    kept = []
    with (
        Sizes(),
        torch.autograd.graph.saved_tensors_hooks(
            lambda x: kept.append(x.numel()) or x, lambda x: x
        ),
    ):
        layer(u.requires_grad_(gradient), v)
    assert 0 < max(sizes) < limit
    assert sum(kept) < u.numel() * 27 * 27


MEMORY = """
import torch
from pathlib import Path
from midiffusion.lmi import LocalMutualInformation

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(field))

layer = LocalMutualInformation("ESTIMATOR")
u, v = torch.rand(2, 1, 1, 256, 256)
u.requires_grad_(GRADIENT)
part = layer(u[..., :9, :9], v[..., :9, :9])
if GRADIENT:
    part.sum().backward()
Path("/proc/self/clear_refs").write_text("5")
idle = status("VmRSS")
found = layer(u, v)
if GRADIENT:
    found.sum().backward()
print(status("VmHWM") - idle)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize("gradient", [False, True])
def test_peak_of_a_fresh_process_is_far_below_all_joint_histograms(gradient: bool) -> None:
    code = MEMORY.replace("ESTIMATOR", "shannon").replace("GRADIENT", str(gradient))
    path = str(Path(__file__).parents[2] / "MIDiffusionTranslate")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 256 * 256 * 27 * 27 * 4 // 2


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "parzen"},
        {"search": "everywhere"},
        {"size": 4},
        {"size": 1},
        {"dilations": ()},
        {"dilations": (0,)},
        {"bandwidths": (0.0,)},
        {"bandwidths": ()},
        {"estimator": "reference", "size": 5},
        {"estimator": "reference", "dilations": (2,)},
        {"estimator": "reference", "bandwidths": (0.04, 0.1)},
    ],
    ids=str,
)
def test_refuses_what_it_cannot_do(options: dict) -> None:
    with pytest.raises(InvalidParameter, match="LMI"):
        LocalMutualInformation(options.pop("estimator", "kde"), **options)


def test_refuses_images_that_do_not_fit() -> None:
    layer = LocalMutualInformation()
    for u, v in ((torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 5)), (torch.rand(4, 4),) * 2):
        with pytest.raises(InvalidParameter, match="one shape"):
            layer(u, v)
