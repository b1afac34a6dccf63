"""The Triton kernels: their values, run by Triton's interpreter, and that GPUs can have them.

The interpreter works on processors, one program after the other, with the kernels' own loads,
masks and loops. What it can't show, that they compile, the compiler shows: it needs no GPU. Both in
processes of their own, since how Triton runs is decided as it is loaded.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from library.test_lmi_reference import RECORD, model_units
from midiffusion.lmi import LocalMutualInformation, fused
from midiffusion.lmi.definition import definition

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="Triton is made for Linux"
)


def images(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two related images, in part flat, nearly flat, and beyond [0, 1]."""
    generator = torch.Generator().manual_seed(3)
    u = torch.rand(2, 1, *size, generator=generator)
    v = (1 - u) ** 2 + 0.1 * torch.randn(2, 1, *size, generator=generator)
    u[0, :, :4, :4] = 0.3
    u[1] = 0.4 + 1e-3 * u[1]
    return u, v


def run(program: str, *arguments: str, **environment: str) -> str:
    """What a program prints in a fresh process."""
    package = str(Path(fused.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": package, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Every map comes from the fused kernels. The time goes with the number of programs.
INTERPRET = """
import sys, torch
from midiffusion.lmi import LocalMutualInformation, fused

fused.serves = lambda u, v: True
for block in fused.BLOCKS.values():
    block["PIXELS"] = 32
cases, found = torch.load(sys.argv[1]), {}
for name, (settings, u, v, sigma_v) in cases.items():
    layer = LocalMutualInformation(**settings)
    found[name] = layer(layer.responses(u), v, sigma_v)[:, 0]
torch.save(found, sys.argv[2])
"""

SIGMA_V = torch.tensor([0.0, 0.2])
VALUES: dict[str, dict[str, Any]] = {
    "kde": {"estimator": "kde", "dilations": (2,)},
    "kde, nats": {"estimator": "kde", "normalised": False},
    "kde, searched": {"estimator": "kde", "search": "shift"},
    "shannon of 5 x 5, nats": {"estimator": "shannon", "size": 5, "normalised": False},
    "shannon, searched": {"estimator": "shannon", "dilations": (2,), "search": "shift"},
}
PARITY: dict[str, dict[str, Any]] = {
    "reference, bits": {"estimator": "reference", "normalised": False},
    "reference, searched": {"estimator": "reference", "search": "shift", "normalised": False},
}


def corner() -> tuple[torch.Tensor, torch.Tensor]:
    """Of recorded slices, as far as their pixels see nothing of the rest, and one pixel more."""
    with np.load(RECORD) as record:
        u, v = (model_units(record[f"{name}_0"])[..., -8:, -8:] for name in ("t1", "flair"))
    return u, v


def with_nan() -> tuple[torch.Tensor, torch.Tensor]:
    u, v = images(4, 5)
    v[0, 0, 1, 1] = torch.nan
    return u, v


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """All maps of this file, [B, H, W], by the interpreter."""
    folder = tmp_path_factory.mktemp("interpreted")
    u, v = images(6, 7)
    cases: dict[str, tuple[Any, ...]] = {
        name: (settings, u, v, SIGMA_V) for name, settings in VALUES.items()
    }
    for name, settings in PARITY.items():
        cases[name] = (settings, u, 6 * v - 3, None)
    cases["recorded"] = ({"estimator": "reference", "search": "shift"}, *corner(), None)
    for estimator in ("kde", "shannon"):
        cases[f"not a number, {estimator}"] = ({"estimator": estimator}, *with_nan(), None)
    torch.save(cases, folder / "cases.pt")
    run(INTERPRET, str(folder / "cases.pt"), str(folder / "found.pt"), TRITON_INTERPRET="1")
    found: dict[str, torch.Tensor] = torch.load(folder / "found.pt")
    return found


@pytest.mark.parametrize("name", VALUES)
def test_the_values_are_those_of_the_definition(
    name: str, interpreted: dict[str, torch.Tensor]
) -> None:
    """Of more pixels than one program has, the last of them not full."""
    settings = {**VALUES[name]}
    (dilation,) = settings.pop("dilations", (1,))
    for u, v, sigma, found in zip(*images(6, 7), SIGMA_V, interpreted[name], strict=True):
        expected = definition(
            u=u[0].double(), v=v[0].double(), dilation=dilation, sigma_v=float(sigma), **settings
        )
        torch.testing.assert_close(found.double(), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", PARITY)
def test_parity_out_of_range(name: str, interpreted: dict[str, torch.Tensor]) -> None:
    for u, v, found in zip(*images(6, 7), interpreted[name], strict=True):
        expected = definition(u=u[0], v=6 * v[0] - 3, **PARITY[name])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_parity_with_the_published_code(interpreted: dict[str, torch.Tensor]) -> None:
    with np.load(RECORD) as record:
        expected = record["lmi_t1_flair_norm_0"][-7:, -7:]
    found = interpreted["recorded"][0, 1:, 1:].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("estimator", ["kde", "shannon"])
def test_what_is_not_a_number_stays_so(
    estimator: str, interpreted: dict[str, torch.Tensor]
) -> None:
    found = interpreted[f"not a number, {estimator}"]
    assert found[0, :3, :3].isnan().all()
    assert not found[1].isnan().any()


COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from midiffusion.lmi import LocalMutualInformation, fused, kernels
import torch

class Recorder:
    def __getitem__(self, grid):
        return lambda *arguments, **flags: self.__dict__.update(arguments=arguments, flags=flags)

fused.serves = lambda u, v: True
image = torch.zeros(1, 1, 4, 4)
asked = Recorder()
kinds = [(name, search) for name in ("kde", "shannon", "reference") for search in ("none", "shift")]
for name, search in kinds:
    kernel = getattr(kernels, name)
    setattr(kernels, name, asked)
    LocalMutualInformation(name, search=search)(image, image)
    setattr(kernels, name, kernel)
    types = ["*fp32" if isinstance(a, torch.Tensor) else "i32" for a in asked.arguments]
    types += ["constexpr"] * len(asked.flags)
    source = ASTSource(
        fn=kernel,
        signature=dict(zip(kernel.arg_names, types, strict=True)),
        constexprs={(kernel.arg_names.index(key),): value for key, value in asked.flags.items()},
    )
    for capability in (75, 80, 90):  # Turing, Ampere, Hopper
        made = compile(source, target=GPUTarget("cuda", capability, 32))
        print(name, capability, len(made.asm["cubin"]), made.metadata.shared)
"""


def test_gpus_can_have_them(tmp_path: Path) -> None:
    """Down to machine code, with what `fused` asks for."""
    made = [line.split() for line in run(COMPILE, TRITON_CACHE_DIR=str(tmp_path)).splitlines()]
    assert len(made) == 6 * 3
    for _, _, code, shared in made:
        assert int(code) > 0
        assert int(shared) <= 48 * 1024  # bytes that every GPU gives without being asked


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an Nvidia GPU")
@pytest.mark.parametrize("estimator", ["kde", "shannon", "reference"])
@pytest.mark.parametrize("search", ["none", "shift"])
def test_a_gpu_agrees_with_the_tiles(
    estimator: str, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    u, v = (image.cuda() for image in images(70, 65))
    assert fused.serves(u, v)
    layer = LocalMutualInformation(estimator, search=search)
    found = layer(u, v)
    monkeypatch.setattr(fused, "serves", lambda u, v: False)
    torch.testing.assert_close(found, layer(u, v), atol=1e-5, rtol=0)


def test_processors_have_none_of_it() -> None:
    u, v = images(4, 4)
    assert not fused.serves(u, v)
    if not torch.cuda.is_available():
        assert not fused.works(torch.device("cuda"))  # and says so without an error
