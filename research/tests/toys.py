"""Toys: subjects whose target is known (discs in a head), heads, a miniature collection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from midiffusion.images.volume import Volume
from midiffusion_research.baselines.method import Method
from midiffusion_research.datasets import Subject
from PIL import Image
from scipy import ndimage

SIDE = 32


def discs(count: int, first: int = 0, side: int = SIDE) -> list[Subject]:
    """Discs of two tissues in a third; the target is the source's contrast turned over inside the
    head. Subject `first` and those that follow it are always the same."""
    rows, columns = np.mgrid[:side, :side]
    half, subjects = side / 2, []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        head = (rows - half) ** 2 + (columns - half) ** 2 < (0.8 * half) ** 2
        source = np.where(head, 0.3, 0.0)
        for level in (0.6, 0.9, 0.6, 0.9):
            centre, radius = random.uniform(0.3, 0.7, 2) * side, random.uniform(0.06, 0.16) * side
            disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
            source[disc & head] = level
        target = np.where(head, 1.1 - source, 0).astype(np.float32)
        volume = Volume(source[None].astype(np.float32), np.diag([-6.0, -6, 6, 1]), "T1")
        subjects.append(Subject(str(number), volume, target[None], head[None]))
    return subjects


def strangers(subjects: list[Subject]) -> list[Subject]:
    """The same sources, each with the target of the next."""
    others = [*subjects[1:], subjects[0]]
    return [
        Subject(a.id, a.source, b.target, b.head) for a, b in zip(subjects, others, strict=True)
    ]


def error(method: Method, subjects: list[Subject]) -> float:
    """Mean absolute error in the discs, which nothing but the map explains."""
    errors = [
        np.abs(method.translate(s.source) - s.target)[s.source.data > 0.5].mean() for s in subjects
    ]
    return float(np.mean(errors))


def gapsOfNoise(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Fills with the distance of neighbouring slices of every noise that the module makes."""
    gaps = []

    class Noted(module.SharedNoise):
        def __init__(self, seed, sample, like, gap=0.0):
            gaps.append(gap)
            super().__init__(seed, sample, like, gap)

    monkeypatch.setattr(module, "SharedNoise", Noted)
    return gaps


def head(size: int, turn: float) -> np.ndarray:
    """A bright ellipse with a dark core on air, [size, size] in 0..1."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    outer = (x / 0.7) ** 2 + (y / 0.9) ** 2 < 1
    inner = ((x - 0.2 * np.cos(turn)) / 0.2) ** 2 + ((y - 0.2 * np.sin(turn)) / 0.3) ** 2 < 1
    return outer * 0.8 - inner * 0.6 * outer


def anatomy(slices: int = 6, size: int = 96) -> np.ndarray:
    """Rings and spots of several shades in air, [slices, size, size] in 0..1."""
    z, y, x = np.meshgrid(
        np.arange(slices), *(np.linspace(-1, 1, size) for _ in range(2)), indexing="ij"
    )
    radius = np.hypot(x, 0.9 * y) + 0.01 * z
    image = np.where(radius < 0.85, 0.5, 0.0)
    image[(radius < 0.78) & (radius > 0.7)] = 0.08
    image[(radius < 0.3)] = 0.8
    image[np.hypot(x - 0.4, y - 0.3) < 0.12] = 0.25
    smooth = ndimage.gaussian_filter(image * (1 + 0.1 * x), (0, 0.8, 0.8))  # as a scanner sees it
    return np.where(smooth > 1e-3, smooth, 0).astype(np.float32)


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    """The magnitude of a complex image with noise in both parts."""
    real, imaginary = sigma * np.random.default_rng(0).standard_normal((2, *clean.shape))
    return np.hypot(clean + real, imaginary).astype(np.float32)


def saveCollection(folder: Path, subjects: Sequence[str], slices: int) -> Path:
    """A miniature of TCGA-LGG in a new folder, which it returns: for each subject the same slices
    of a head, T1 and FLAIR, with an ellipse in it that is dark in one and bright in the other."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    tiles = np.zeros((slices, 128, 128, 3), dtype=np.uint8)
    for number, tile in enumerate(tiles, start=1):
        tile[(x / 0.6) ** 2 + (y / 0.8) ** 2 < 1] = 160, 130, 0
        tile[(x / 0.2) ** 2 + (y / 0.1 / number) ** 2 < 1] = 60, 230, 0
    folder.mkdir()
    sheet = Image.fromarray(tiles.reshape(-1, 128, 3), "RGB")
    for subject in subjects:
        sheet.save(folder / f"{subject}.webp", lossless=True, exact=True)
    return folder
