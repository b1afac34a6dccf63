"""The values of the layer: those of loops over pixels and samples, in tiles or not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from library.conftest import SEARCH, related_images
from midiffusion.lmi import LocalMutualInformation
from midiffusion.lmi.definition import definition


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


def oracle(
    u: np.ndarray,
    v: np.ndarray,
    size: int = 3,
    dilation: int = 1,
    h: float = 0.04,
    sigma: float = 0.0,
    search: str = "none",
    normalised: bool = True,
) -> np.ndarray:
    shifts = list(itertools.product((-1, 0, 1), repeat=2)) if search == "shift" else [(0, 0)]
    result = np.full(u.shape, -np.inf)
    border = np.pad(v, size * dilation, mode="edge")
    for (y, x), (dy, dx) in itertools.product(np.ndindex(u.shape), shifts):
        moved = patch(border, y + dy + size * dilation, x + dx + size * dilation, size, dilation)
        h_u, h_v, h_joint = kde_entropies(
            patch(u, y, x, size, dilation), moved, h, math.sqrt(h**2 + sigma**2)
        )
        information = max(h_u + h_v - h_joint, 0.0)
        if normalised:
            information = 2 * information / (h_u + h_v) if h_u + h_v > 0 else 0.0
        result[y, x] = max(result[y, x], information)
    return result


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
def test_agrees_with_loops(options: dict) -> None:
    u, v = related_images(1, 1, 5, 6)
    layer = LocalMutualInformation(
        size=options.get("size", 3),
        dilations=(options.get("dilation", 1),),
        bandwidths=(options.get("h", 0.04),),
        search=options.get("search", "none"),
        normalised=options.get("normalised", True),
    )
    sigma = torch.tensor([options["sigma"]]) if "sigma" in options else None
    expected = oracle(u[0, 0].numpy(), v[0, 0].numpy(), **options)
    for dtype in (torch.float64, torch.float32):
        found = layer(u.to(dtype), v.to(dtype), sigma)
        assert found.dtype == dtype
        np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-5)


@SEARCH
def test_batch_scales_and_odd_sizes(search: str) -> None:
    """Each channel of each slice is what its scale alone gives, dilation by dilation."""
    dilations, bandwidths = (1, 3), (0.05, 0.2)
    layer = LocalMutualInformation(dilations=dilations, bandwidths=bandwidths, search=search)
    for height, width in ((1, 1), (2, 7), (13, 5)):
        u, v = related_images(3, 1, height, width)
        sigma = torch.tensor([0.0, 0.2, 1.0])
        found = layer(u, v, sigma)
        assert found.shape == (3, layer.channels, height, width)
        scales = list(itertools.product(dilations, bandwidths))
        for b, (c, (dilation, h)) in itertools.product(range(3), enumerate(scales)):
            expected = definition(
                u[b, 0],
                v[b, 0],
                dilation=dilation,
                bandwidth=h,
                search=search,
                sigma_v=float(sigma[b]),
            )
            torch.testing.assert_close(found[b, c], expected, atol=1e-6, rtol=0)


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    u, v = related_images(3, 1, 9, 11)
    layer = LocalMutualInformation(dilations=(2,), search="shift")
    whole = layer(u, v)
    for pixels in (1, 25, 220):
        monkeypatch.setattr("midiffusion.lmi.kde.TILE_PIXELS", {"cpu": pixels})
        torch.testing.assert_close(layer(u, v), whole, atol=1e-12, rtol=0)


@SEARCH
def test_responses_stand_in_for_the_first_image(search: str) -> None:
    u, v = related_images(3, 1, 9, 8)
    sigma = torch.tensor([0.0, 0.1, 0.5])
    layer = LocalMutualInformation(dilations=(1, 2), bandwidths=(0.04, 0.1), search=search)
    known = layer.responses(u)
    for arguments in ((v,), (v, sigma), (u,)):
        expected = layer(u, *arguments)
        torch.testing.assert_close(layer(known, *arguments), expected, atol=1e-9, rtol=0)
    some = slice(1, 3)
    torch.testing.assert_close(
        layer(known.select(some), v[some], sigma[some]), layer(u, v, sigma)[some]
    )
