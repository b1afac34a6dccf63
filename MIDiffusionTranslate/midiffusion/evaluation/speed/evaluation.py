"""One evaluation of the denoiser: what LMI takes of it, and how near its network comes to the most
that the device can multiply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...batching import SliceBatches
from ...conditioning import LMICondition, LMISettings
from ...model import TranslationModel
from ...noise import geometric_sigmas
from ...precision import computing_in, network_dtype
from ...samplers import SAMPLERS
from ...sampling import reproducible
from .timing import best_seconds

_MATRICES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}


@dataclass(frozen=True)
class Evaluation:
    """Figures of one evaluation on slices of size x size pixels.

    batch: slices at a time, as the product chooses. gflop: of the network, one slice, a
    multiplication and an addition counting as two. Seconds are per slice: of the network in the
    number format that the product uses here, and in float32; of the cross maps; of a whole
    evaluation with and without them; of the self maps, which a volume needs once.
    gemm_gflops, gemm_gflops_float32: of the fastest square matrix product, in the same two formats.
    evaluations, with_cross: of the card's default schedule, and those of them with cross maps.
    """

    size: int
    batch: int
    gflop: float
    network_s: float
    network_float32_s: float
    cross_maps_s: float
    evaluation_s: float
    evaluation_without_cross_s: float
    self_maps_s: float
    gemm_gflops: float
    gemm_gflops_float32: float
    evaluations: int
    with_cross: int

    @property
    def lmi_share(self) -> float:
        """Of an evaluation with cross maps, the time that LMI takes (B3)."""
        return self.cross_maps_s / self.evaluation_s

    @property
    def lmi_share_of_run(self) -> float:
        """Of a default run, self maps included."""
        lmi = self.self_maps_s + self.with_cross * self.cross_maps_s
        others = self.evaluations - self.with_cross
        run = self.with_cross * self.evaluation_s + others * self.evaluation_without_cross_s
        return lmi / (self.self_maps_s + run)

    @property
    def utilisation(self) -> float:
        """Of the matrix product's rate, what the network reaches (B5)."""
        return self.gflop / self.network_s / self.gemm_gflops

    @property
    def utilisation_float32(self) -> float:
        """The same with both in float32."""
        return self.gflop / self.network_float32_s / self.gemm_gflops_float32


def measure(model: TranslationModel, device: torch.device, size: int, repeats: int) -> Evaluation:
    """The figures for slices of `size` pixels; the model is moved to the device."""
    denoiser = model.denoiser.to(device)
    settings, dtype = LMISettings(**model.card.lmi), network_dtype(device)
    lowest_without = settings.cross_sigma_max * 1.01
    batch = SliceBatches(device).size
    generator = torch.Generator().manual_seed(0)
    source, x = torch.rand(2, batch, 1, size, size, generator=generator).to(device)
    level = torch.full((1,), settings.cross_sigma_max, device=device)
    levels = level.expand(batch)
    schedule = geometric_sigmas(*_default_levels(model))[:-1]

    def seconds(compute: Callable[[], object]) -> float:
        return best_seconds(compute, device, repeats) / batch

    gflop = network_gflop(model, device, size)
    with reproducible():
        condition = LMICondition(source, settings)
        maps = condition.channels(x, settings.cross_sigma_max)

        def network(kind: torch.dtype) -> Tensor:
            with computing_in(kind, device):
                return denoiser.network(x, levels, maps)

        def evaluation(sigma: float) -> Tensor:
            channels = condition.channels(x, sigma)
            with computing_in(dtype, device):
                return denoiser(x, level, channels)

        rates = {kind: gemm_gflops(device, kind, repeats) for kind in {dtype, torch.float32}}
        return Evaluation(
            size=size,
            batch=batch,
            gflop=gflop,
            network_s=seconds(lambda: network(dtype)),
            network_float32_s=seconds(lambda: network(torch.float32)),
            cross_maps_s=seconds(lambda: condition.channels(x, settings.cross_sigma_max)),
            evaluation_s=seconds(lambda: evaluation(settings.cross_sigma_max)),
            evaluation_without_cross_s=seconds(lambda: evaluation(lowest_without)),
            self_maps_s=seconds(lambda: LMICondition(source, settings)),
            gemm_gflops=rates[dtype],
            gemm_gflops_float32=rates[torch.float32],
            evaluations=len(schedule),
            with_cross=int((schedule <= settings.cross_sigma_max).sum())
            if settings.cross_channels
            else 0,
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


def network_gflop(model: TranslationModel, device: torch.device, size: int) -> float:
    """10^9 operations of the network for one slice, counted by PyTorch (convolutions and matrix
    products; the rest is below a hundredth)."""
    x = torch.zeros(1, 1, size, size, device=device)
    maps = torch.zeros(1, LMISettings(**model.card.lmi).channels, size, size, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        # Not called as a module: what is compiled counts nothing.
        model.denoiser.network.forward(x, torch.zeros(1, device=device), maps)
    return counter.get_total_flops() / 1e9


def _default_levels(model: TranslationModel) -> tuple[int, float, float]:
    card, sde = model.card, model.sde(detail=True)
    steps = SAMPLERS[card.default_sampler].steps(model.default_steps(detail=True))
    return steps, sde.sigma_min, sde.sigma_max
