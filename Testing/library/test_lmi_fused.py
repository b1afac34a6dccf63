"""The Triton kernels: their values, run by Triton's interpreter, and that GPUs can have them.

The interpreter works on processors, one program after the other, with the kernels' own loads,
masks and loops. What it can't show, that they compile, the compiler shows: it needs no GPU.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from library.test_lmi_reference import RECORD, model_units
from midiffusion import lmi
from midiffusion.lmi import LocalMutualInformation, fused
from midiffusion.lmi.definition import definition

KERNELS = "midiffusion.lmi.kernels"
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


@pytest.fixture(scope="module")
def interpreted_kernels() -> Iterator[None]:
    """How kernels run is decided as they are loaded: here, and only here, they are interpreted."""
    others = sys.modules.pop(KERNELS, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(lmi, "kernels", importlib.import_module(KERNELS), raising=False)
        yield
    sys.modules.pop(KERNELS)
    if others is not None:
        sys.modules[KERNELS] = others


@pytest.fixture
def interpreted(interpreted_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map comes from the fused kernels, worked through by the interpreter."""
    monkeypatch.setattr(fused, "serves", lambda u, v: True)
    # The interpreter's time goes with the number of programs.
    monkeypatch.setattr(fused, "JOINT_PIXELS", 32)


@pytest.mark.parametrize(
    ("estimator", "search", "size", "dilation", "normalised"),
    [
        ("kde", "none", 3, 2, True),
        ("kde", "none", 5, 1, False),
        ("kde", "shift", 3, 1, True),
        ("shannon", "none", 3, 2, False),
        ("shannon", "shift", 3, 1, True),
    ],
)
def test_the_values_are_those_of_the_definition(
    interpreted: None, estimator: str, search: str, size: int, dilation: int, normalised: bool
) -> None:
    u, v = images(6, 7)
    sigma_v = torch.tensor([0.0, 0.2])
    layer = LocalMutualInformation(
        estimator, search=search, size=size, dilations=(dilation,), normalised=normalised
    )
    found = layer(layer.responses(u), v, sigma_v)[:, 0]
    for i in range(2):
        expected = definition(
            estimator,
            u[i, 0].double(),
            v[i, 0].double(),
            size=size,
            dilation=dilation,
            search=search,
            normalised=normalised,
            sigma_v=float(sigma_v[i]),
        )
        torch.testing.assert_close(found[i].double(), expected, atol=3e-6, rtol=0)


def test_parity_with_the_published_code(interpreted: None) -> None:
    """A corner of a recorded map, as far as its pixels see nothing of the rest."""
    with np.load(RECORD) as record:
        u, v = (model_units(record[f"{name}_0"])[..., -8:, -8:] for name in ("t1", "flair"))
        expected = record["lmi_t1_flair_norm_0"][-7:, -7:]
    found = LocalMutualInformation("reference", search="shift")(u, v)[0, 0, 1:, 1:]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("search", ["none", "shift"])
def test_parity_out_of_range(interpreted: None, search: str) -> None:
    u, v = images(5, 4)
    layer = LocalMutualInformation("reference", search=search, normalised=False)
    found = layer(u, 6 * v - 3)[:, 0].double()
    for i in range(2):
        expected = definition(
            "reference", u[i, 0], 6 * v[i, 0] - 3, search=search, normalised=False
        )
        torch.testing.assert_close(found[i], expected.double(), atol=1e-5, rtol=0)


def test_more_pixels_than_one_program_has(
    interpreted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "KDE_PIXELS", 16)
    u, v = images(6, 7)
    found = LocalMutualInformation("kde")(u, v)
    expected = definition("kde", u[1, 0].double(), v[1, 0].double())
    torch.testing.assert_close(found[1, 0].double(), expected, atol=3e-6, rtol=0)


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
    """Down to machine code, with what `fused` asks for; in a process that does not interpret."""
    package = Path(fused.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(package), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = [line.split() for line in done.stdout.splitlines()]
    assert len(made) == 6 * 3
    for _, _, code, shared in made:
        assert int(code) > 0
        assert int(shared) <= 48 * 1024  # bytes that every GPU gives without being asked


def test_what_is_not_a_number_stays_so(interpreted: None) -> None:
    u, v = images(4, 5)
    v[0, 0, 1, 1] = torch.nan
    found = LocalMutualInformation("kde")(u, v)
    assert found[0, 0, :3, :3].isnan().all()
    assert not found[1].isnan().any()


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
