"""The layer never holds all joint densities at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from library.conftest import related_images
from midiffusion.lmi import LocalMutualInformation


@pytest.mark.parametrize("gradient", [False, True])
def test_no_joint_histogram_outlives_its_tile(gradient: bool) -> None:
    """No tensor, kept or passing, is of the size of all joint densities."""
    u, v = related_images(1, 1, 40, 40)
    limit = u.numel() * 27 * 27 // 4
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    layer = LocalMutualInformation()
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

layer = LocalMutualInformation()
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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize("gradient", [False, True])
def test_peak_of_a_fresh_process_is_far_below_all_joint_histograms(gradient: bool) -> None:
    code = MEMORY.replace("GRADIENT", str(gradient))
    path = str(Path(__file__).parents[2] / "MIDiffusionTranslate")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 256 * 256 * 27 * 27 * 4 // 2
