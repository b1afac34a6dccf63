"""What the library's tests share: a tiny, untrained network, images, and the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import saveTiny
from midiffusion import cli
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume
from midiffusion.pipeline.target import TargetModel, load_model

SEARCH = pytest.mark.parametrize("search", ["none", "shift"])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetModel:
    """Computes in float32 on every computer; bfloat16 is the subject of test_precision.py."""
    for module in ("mean", "sample", "translate"):
        name = f"midiffusion.pipeline.{module}.network_dtype"
        monkeypatch.setattr(name, lambda device: torch.float32)
    return load_model(saveTiny(tmp_path / "tinymodels" / "tiny"))


@pytest.fixture
def volume() -> Volume:
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (5, 31, 27)), indexing="ij")
    radius = np.sqrt((k / 2) ** 2 + j**2 + i**2)
    data = np.where(radius < 0.9, 300 + 100 * np.cos(9 * radius + 3 * i), 0)
    turn, _ = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(0).standard_normal((3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = turn * [5.0, -6.0, 4.0]  # left-handed
    matrix[:3, 3] = [-60.3, 70.1, -20.0]
    return Volume(data.astype(np.int16), matrix, "MR")


def related_images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two related images, a little outside [0, 1] in places."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(shape, generator=generator, dtype=torch.float64) * 1.1 - 0.05
    v = 0.8 * (1 - u) ** 2 + 0.1 * torch.rand(shape, generator=generator, dtype=torch.float64)
    return u, v


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file of a small volume."""
    data = np.random.default_rng(0).random((3, 5, 4), dtype=np.float32)
    path = tmp_path / "source.nrrd"
    write_volume(path, Volume(data, np.diag([2.0, 2.0, 3.0, 1.0])))
    return path


@pytest.fixture
def run(tmp_path: Path, make_bundle: Callable[..., Path], capsys) -> Callable[..., Any]:
    """run(*arguments) -> (exit code, stdout, stderr) with the toy bundle's folder named."""
    make_bundle()

    def run(*arguments: object) -> tuple[int, str, str]:
        folder = ("--model-folder", tmp_path / "models")
        code = cli.main([str(word) for word in (*arguments, *folder)])
        return (code, *capsys.readouterr())

    return run


def assert_refused(answer: tuple[int, str, str], sentence: str, code: int = 1) -> None:
    """The answer of `run` is one line on stderr with this sentence, and this exit code."""
    got, out, err = answer
    assert got == code
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sentence in err
