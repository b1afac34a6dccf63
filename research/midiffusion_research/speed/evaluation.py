"""One network evaluation: the share of LMI in it, and the rate of the network against that of the
fastest matrix product of the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from midiffusion.diffusion.conditioning import LMICondition
from midiffusion.pipeline.target import TargetModel
from midiffusion.runtime.batching import SliceBatches
from midiffusion.runtime.precision import computing_in, network_dtype, reproducible
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .timing import best_seconds

_MATRICES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}


@dataclass(frozen=True)
class Evaluation:
    """Figures of one evaluation of the backbone on slices of size x size pixels.

    batch: slices at a time, as the pipeline chooses. gflop: of the network, one slice, a
    multiplication and an addition counting as two. Seconds are per slice: of the network in the
    number format that the pipeline uses here, and in float32; of the LMI maps of the source; of the
    cross maps, which one evaluation of the denoiser adds (0 without a denoiser).
    gemm_gflops, gemm_gflops_float32: of the fastest square matrix product, in the same two formats.
    """

    size: int
    batch: int
    gflop: float
    network_s: float
    network_float32_s: float
    self_maps_s: float
    cross_maps_s: float
    gemm_gflops: float
    gemm_gflops_float32: float

    @property
    def lmi_share(self) -> float:
        """Of a view (maps of the source and the network), the time of the maps."""
        return self.self_maps_s / (self.self_maps_s + self.network_s)

    @property
    def utilisation(self) -> float:
        """Of the matrix product's rate, what the network reaches."""
        return self.gflop / self.network_s / self.gemm_gflops

    @property
    def utilisation_float32(self) -> float:
        """The same with both in float32."""
        return self.gflop / self.network_float32_s / self.gemm_gflops_float32


def measure(model: TargetModel, device: torch.device, size: int, repeats: int) -> Evaluation:
    """The figures for slices of `size` pixels; the model is moved to the device."""
    backbone, settings = model.backbone.to(device), model.lmi
    dtype, batch = network_dtype(device), SliceBatches(device).size
    generator = torch.Generator().manual_seed(0)
    source, x = torch.rand(2, batch, 1, size, size, generator=generator).to(device)

    def seconds(compute: Callable[[], object]) -> float:
        return best_seconds(compute, device, repeats) / batch

    gflop = network_gflop(model, device, size)
    with reproducible():
        condition = LMICondition(source, settings)

        def network(kind: torch.dtype) -> Tensor:
            with computing_in(kind, device):
                return backbone(condition.fixed)

        def cross() -> Tensor:
            return condition.channels(x, settings.cross_sigma_max)

        rates = {kind: gemm_gflops(device, kind, repeats) for kind in {dtype, torch.float32}}
        return Evaluation(
            size=size,
            batch=batch,
            gflop=gflop,
            network_s=seconds(lambda: network(dtype)),
            network_float32_s=seconds(lambda: network(torch.float32)),
            self_maps_s=seconds(lambda: LMICondition(source, settings)),
            cross_maps_s=0.0 if model.denoiser is None else seconds(cross),
            gemm_gflops=rates[dtype],
            gemm_gflops_float32=rates[torch.float32],
        )


def gemm_gflops(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    """The highest rate of a square matrix product, in 10^9 operations a second: as such, and as a
    convolution of 1 x 1 pixels, since on a CPU different libraries compute the two."""
    best = 0.0
    for n in _MATRICES["cuda" if device.type == "cuda" else "cpu"]:
        a, b = torch.rand(2, n, n, device=device, dtype=dtype)
        image = a.view(1, n, n, 1).contiguous(memory_format=torch.channels_last)
        kernel = b.view(n, n, 1, 1).contiguous(memory_format=torch.channels_last)
        for compute in (partial(torch.mm, a, b), partial(F.conv2d, image, kernel)):
            best = max(best, 2e-9 * n**3 / best_seconds(compute, device, repeats))
    return best


def network_gflop(model: TargetModel, device: torch.device, size: int) -> float:
    """10^9 operations of the backbone for one slice, counted by PyTorch (convolutions and matrix
    products; the rest is below a hundredth)."""
    x = torch.zeros(1, 1, size, size, device=device)
    maps = torch.zeros(1, model.lmi.fixed_channels, size, size, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        # Not called as a module: what is compiled counts nothing.
        model.backbone.network.forward(x, torch.zeros(1, device=device), maps)
    return counter.get_total_flops() / 1e9
