"""What the library's tests share: a tiny, untrained network, images, and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from midiffusion import cli
from midiffusion.card import ModelCard
from midiffusion.conditioning import LMISettings
from midiffusion.denoiser import Denoiser
from midiffusion.intensity import PercentileIntensity
from midiffusion.io import write_volume
from midiffusion.model import TranslationModel
from midiffusion.network import UNet, UNetConfig
from midiffusion.volume import Volume

LMI = LMISettings(
    dilations=(1, 2), bandwidths=(0.1,), cross_dilations=(2,), cross_bandwidths=(0.1,)
)
NETWORK = UNetConfig(cond_channels=LMI.channels, channels=(8, 16), embedding=16)


# Of the LMI layer: estimators that are no record of another code, and both search sets.
BOTH = pytest.mark.parametrize("estimator", ["kde", "shannon"])
SEARCH = pytest.mark.parametrize("search", ["none", "shift"])


@pytest.fixture
def card(card_values) -> ModelCard:
    changes = {
        "pixel_mm": 3.0,
        "lmi": asdict(LMI),
        "network": asdict(NETWORK),
        "sigma_data": 0.3,
        "sigma_max": 5.0,
        "default_steps": 3,
        "default_sampler": "heun",
        "intensity": PercentileIntensity().to_dict(),
    }
    return ModelCard(**{**card_values, **changes})


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(5)
    network = UNet(NETWORK)
    for parameter in network.parameters():
        if not parameter.any():  # layers that start at zero would hide what comes before them
            torch.nn.init.normal_(parameter, std=0.1)
    network.half().float()  # as bundles store it
    return Denoiser(network, sigma_data=0.3)


@pytest.fixture
def model(card: ModelCard, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> TranslationModel:
    """Computes in float32 on every computer; bfloat16 is the matter of test_precision.py."""
    monkeypatch.setattr("midiffusion.model.network_dtype", lambda device: torch.float32)
    return TranslationModel(card, denoiser)


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
