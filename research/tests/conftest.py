"""What the tests of the research package share: a tiny model, images, and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before anything imports torch: small tests lose more to threads than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from bundles import saveTiny  # noqa: E402
from midiffusion.pipeline.target import TargetModel, load_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetModel:
    """Computes in float32 on every computer."""
    for module in ("mean", "sample", "translate"):
        name = f"midiffusion.pipeline.{module}.network_dtype"
        monkeypatch.setattr(name, lambda device: torch.float32)
    return load_model(saveTiny(tmp_path / "tinymodels" / "tiny"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """run(*arguments) -> (exit code, stdout, stderr) of `midiffusion-research`."""
    from midiffusion_research import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in arguments])
        return (code, *capsys.readouterr())

    return run
