"""Samples of a stack of slices: shared noise, all slices together, progress between batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .batching import SliceBatches
from .conditioning import LMICondition, LMISettings
from .denoiser import Denoiser
from .device import memory_bytes
from .lmi.layer import Responses
from .noise import VESDE, geometric_sigmas
from .precision import computing_in
from .samplers import Sampler


@dataclass(frozen=True)
class Progress:
    """Where a translation stands.

    step, of: the network evaluation at work, from 1, and how many there are (over all samples).
    slices_done, slices: within this evaluation. eta_s: seconds left. memory_bytes: most memory
    used so far, None where that isn't known. preview: the middle slice as now estimated, [H, W] in
    model units, with the last batch of an evaluation; None otherwise.
    """

    step: int
    of: int
    slices_done: int
    slices: int
    eta_s: float | None
    device: str
    memory_bytes: int | None
    preview: np.ndarray | None


OnStep = Callable[[Progress], None]


@dataclass(frozen=True)
class Plan:
    """What is to be drawn: `samples` samples by `sampler` in `steps` of its own steps, for slices
    `gap` pixels apart (0: all slices have the same noise)."""

    sampler: Sampler
    steps: int
    sde: VESDE
    seed: int
    samples: int
    gap: float = 0.0

    @property
    def evaluations(self) -> int:
        """Network evaluations per slice and sample."""
        return self.sampler.evaluations(self.steps)


def draw_samples(
    denoiser: Denoiser,
    lmi: LMISettings,
    source: Tensor,
    plan: Plan,
    on_step: OnStep | None = None,
    batch: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Yields plan.samples samples, each [S, 1, H, W] in model units, for a source of that shape.

    The denoiser is on the source's device and in evaluation mode. State and LMI maps of all slices
    stay on that device; the network works through the slices in batches (`batch` at first, default
    by device), so that its memory does not grow with their number. dtype: what the network computes
    in; the state is the source's float32 in any case. on_step is called between batches, and what
    it raises ends the run. Without it nothing waits for the device; with it one slice is fetched
    after each evaluation, which also keeps what is reported from running ahead of what is done.
    Raises OutOfMemory.
    """
    slices, device = len(source), source.device
    batches = SliceBatches(slices, device, batch)
    maps = batches.map(lambda part: LMICondition(source[part], lmi).self_maps)
    known = None
    if lmi.cross_channels:
        cross = lmi.cross_lmi()
        known = Responses(source, batches.map(lambda part: cross.responses(source[part]).entropy))
    condition = LMICondition(source, lmi, self_maps=maps, responses=known)
    report = _Report(plan, slices, device, on_step)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = x.new_full((1,), sigma)  # made there: a copied number would make us wait

        def one_batch(part: slice) -> Tensor:
            channels = condition.select(part).channels(x[part], sigma)
            with computing_in(dtype, device):
                return denoiser(x[part], level, channels)

        if report.step == 0 and batch is None:
            batches.fit(one_batch)
        report.step += 1
        estimate = batches.map(one_batch, report.batch_done)
        report.evaluation_done(estimate)
        return estimate

    sigmas = geometric_sigmas(plan.steps, plan.sde.sigma_min, plan.sde.sigma_max)
    for sample in range(plan.samples):
        noise = SharedNoise(plan.seed, sample, source, plan.gap)
        made = plan.sampler.sample(denoise, plan.sde.prior(noise(0)), sigmas, noise=noise)
        if sample + 1 == plan.samples:
            del maps, known, condition  # most of what a run holds: whoever takes this needs room
        yield made


class SharedNoise:
    """Standard normal noise, a pure function of (seed, sample, key) and the place of the slice,
    shared by the slices as far as they are near.

    Every slice by itself is white. From one slice to the next, `gap` pixels further on, a detail of
    the angular frequency k (radians a pixel) keeps the correlation exp(-gap k): what is coarse, and
    with it the brightness, is shared by many slices, and texture is as long through the plane as in
    it. The same noise for all slices (gap 0) draws texture out into streaks; independent noise
    makes the brightness flicker.

    It is made on the CPU, so that devices agree. Key 0 is the start, the others are the sampler's.
    """

    def __init__(self, seed: int, sample: int, like: Tensor, gap: float = 0.0) -> None:
        self._seed = seed
        self._sample = sample
        self._like = like
        self._gap = gap

    def __call__(self, key: int) -> Tensor:
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._sample, key))
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        like = self._like
        if self._gap == 0:
            one = torch.randn(like.shape[1:], generator=generator, dtype=like.dtype)
            return one.to(like.device).expand_as(like).contiguous()
        height, width = like.shape[-2:]
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
        kept = torch.exp(-self._gap * 2 * torch.pi * torch.hypot(rows, columns))
        renewed = (1 - kept**2).sqrt()
        made = torch.empty(like.shape, dtype=torch.float32)
        wave: Tensor | None = None
        for one in made:
            fresh = torch.fft.rfft2(torch.randn(like.shape[1:], generator=generator))
            wave = fresh if wave is None else kept * wave + renewed * fresh
            one.copy_(torch.fft.irfft2(wave, s=(height, width)))
        return made.to(like)


class _Report:
    """Tells the caller how far we are, between batches."""

    def __init__(
        self, plan: Plan, slices: int, device: torch.device, on_step: OnStep | None
    ) -> None:
        self.step = 0
        self._of = plan.samples * plan.evaluations
        self._slices = slices
        self._device = device
        self._on_step = on_step
        self._started = time.monotonic()

    def batch_done(self, done: int) -> None:
        if done < self._slices:  # the last batch is reported with its preview
            self._send(done, None)

    def evaluation_done(self, estimate: Tensor) -> None:
        if self._on_step is not None:
            self._send(self._slices, estimate[self._slices // 2, 0].cpu().numpy().copy())

    def _send(self, done: int, preview: np.ndarray | None) -> None:
        if self._on_step is None:
            return
        share = (self.step - 1 + done / self._slices) / self._of
        self._on_step(
            Progress(
                step=self.step,
                of=self._of,
                slices_done=done,
                slices=self._slices,
                eta_s=(time.monotonic() - self._started) * (1 / share - 1),
                device=str(self._device),
                memory_bytes=memory_bytes(self._device),
                preview=preview,
            )
        )


@contextmanager
def reproducible() -> Iterator[None]:
    """No gradients; on CUDA, convolutions in true float32 and by reproducible algorithms, so that
    a result does not depend on the size of the batches."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ),
    ):
        yield
