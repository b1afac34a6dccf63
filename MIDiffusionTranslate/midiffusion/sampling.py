"""Samples of a stack of slices: shared noise, slab by slab, progress between batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from .batching import SliceBatches
from .conditioning import LMICondition, LMISettings
from .denoiser import Denoiser
from .device import memory_bytes
from .lmi.layer import Responses
from .noise import VESDE, Schedule, geometric_sigmas
from .precision import computing_in
from .samplers import Denoise, Noise, Sampler


@dataclass(frozen=True)
class Progress:
    """Where a translation stands.

    step, of: the network evaluation at work, from 1, and how many there are, over all samples and,
    where a volume is too large to be sampled at once, over its slabs, which are of nearly the same
    size. slices_done, slices: of the slab, within this evaluation. eta_s: seconds left.
    memory_bytes: most memory used so far, None where that isn't known. preview: the slab's middle
    slice as now estimated, [H, W] in model units, with the last batch of an evaluation; None
    otherwise.
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

# What samplers keep of a slice beside its maps, at most: state, noise, estimates and their sums,
# the first estimate.
_STATE_IMAGES = 7
# Standard deviation, pixels (12 mm), of the mean that the starting noise is taken relative to.
# Chosen on training subjects, as `Brightness` was (docs/results.md).
_COARSE = 7.2
_SHOWN = 0.1  # model units: what an estimate has above it counts for its brightness
_MOST_GAIN = 1.25  # of a sample, either way; heads at hand have needed 1.02 to 1.16 by default


@dataclass(frozen=True)
class Plan:
    """What is to be drawn: `samples` samples by `sampler` in `steps` of its own steps, for slices
    `gap` pixels apart (0: all slices have the same noise). absolute: whether the target's units
    have a scale of their own, as Hounsfield's; else a sample gets the `Brightness` of its first
    estimate. schedule: of the noise levels within the range of `sde`."""

    sampler: Sampler
    steps: int
    sde: VESDE
    seed: int
    samples: int
    gap: float = 0.0
    absolute: bool = False
    schedule: Schedule = geometric_sigmas

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

    The denoiser is on the source's device and in evaluation mode. Slices depend on each other by
    their noise alone, so the sampler runs through one slab of them after the other (`slabs`): maps
    and state are kept of one at a time, source and sample of all slices, on that device. Within a
    slab the network works in batches (`batch` at first, default by device). Neither changes the
    result. dtype: what the network computes in; the state is the source's float32 in any case.
    on_step is called between batches, and what it raises ends the run. Without it nothing waits for
    the device; with it one slice is fetched after each evaluation, which also keeps what is
    reported from running ahead of what is done. Raises OutOfMemory.
    """
    device = source.device
    batches = SliceBatches(device, batch)
    slabs = batches.slabs(source, lmi.channels + _STATE_IMAGES)
    report = _Report(plan, len(source), len(slabs), device, on_step)
    sigmas = plan.schedule(plan.steps, plan.sde.sigma_min, plan.sde.sigma_max)

    def sampled(
        condition: LMICondition, start: Tensor, noise: Noise, brightness: Brightness
    ) -> Tensor:
        def denoise(x: Tensor, sigma: float) -> Tensor:
            level = x.new_full((1,), sigma)  # made there: a copied number would make us wait

            def one_batch(part: slice) -> Tensor:
                channels = condition.select(part).channels(x[part], sigma)
                with computing_in(dtype, device):
                    return denoiser(x[part], level, channels)

            if report.step == 0 and batch is None:
                batches.fit(one_batch)
            report.begin(len(x))
            estimate = batches.map(len(x), one_batch, report.batch_done)
            report.evaluation_done(estimate)
            return estimate

        watched = brightness.of_first(denoise)
        made = plan.sampler.sample(watched, plan.sde.prior(start), sigmas, noise=noise)
        brightness.compare(made)
        return made

    condition: LMICondition | None = None
    for sample in range(plan.samples):
        noise = SharedNoise(plan.seed, sample, source, plan.gap)
        brightness = Brightness()
        made = torch.empty_like(source)
        for slab in slabs:
            if condition is None:
                condition = _condition(source[slab], lmi, batches)
            following = partial(noise, part=slab)
            made[slab] = sampled(condition, noise.start(slab), following, brightness)
            if len(slabs) > 1 or sample + 1 == plan.samples:
                condition = None  # most of what a run holds: what comes next needs the room
        yield made if plan.absolute else made.mul_(brightness.gain())


def _condition(source: Tensor, lmi: LMISettings, batches: SliceBatches) -> LMICondition:
    """With everything computed that depends on the source alone."""
    count = len(source)
    maps = batches.map(count, lambda part: LMICondition(source[part], lmi).self_maps)
    known = None
    if lmi.cross_channels:
        cross = lmi.cross_lmi()
        entropy = batches.map(count, lambda part: cross.responses(source[part]).entropy)
        known = Responses(source, entropy)
    return LMICondition(source, lmi, self_maps=maps, responses=known)


class Brightness:
    """Keeps a sample, all slices of it, as bright as the first estimate that led to it.

    At the highest noise level the state says nothing, and the estimate is the mean of what is
    likely. Samples are darker than that by some per cent.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._wanted: list[Tensor] = []  # by slice, so that slabs make no difference
        self._found: list[Tensor] = []

    def of_first(self, denoise: Denoise) -> Denoise:
        """The same denoiser, whose next estimate is the first of some slices."""
        self._first = None

        def noted(x: Tensor, sigma: float) -> Tensor:
            estimate = denoise(x, sigma)
            if self._first is None:
                self._first = estimate  # no sampler writes into it
            return estimate

        return noted

    def compare(self, made: Tensor) -> None:
        """Takes these slices into account, [S, 1, H, W], of which the first estimate is known."""
        assert self._first is not None  # every sampler evaluates
        shown = self._first > _SHOWN
        self._wanted.append((self._first * shown).sum(dim=(1, 2, 3)))
        self._found.append((made * shown).sum(dim=(1, 2, 3)))
        self._first = None

    def gain(self) -> Tensor:
        """What the sample is to be multiplied by, up to `_MOST_GAIN` either way; 1 where the first
        estimate shows nothing."""
        wanted, found = torch.cat(self._wanted).sum(), torch.cat(self._found).sum()
        gain = (wanted / found.clamp_min(1e-6)).clamp(1 / _MOST_GAIN, _MOST_GAIN)
        return torch.where(wanted > 0, gain, torch.ones_like(gain))


class SharedNoise:
    """Standard normal noise, a pure function of (seed, sample, key) and the place of the slice,
    shared by the slices as far as they are near.

    Every slice by itself is white. From one slice to the next, `gap` pixels further on, a detail of
    the angular frequency k (radians a pixel) keeps the correlation exp(-gap k): what is coarse is
    shared by many slices, and texture is as long through the plane as in it. The same noise for all
    slices (gap 0) draws texture out into streaks; independent noise makes the brightness flicker.

    It is made on the CPU, so that devices agree. Key 0 is the start's, the others the sampler's.
    Those who ask for one part of the slices after the other get what asking for all would give.

    Args:
        like: [S, 1, H, W], for as many slices, on this device.
    """

    def __init__(self, seed: int, sample: int, like: Tensor, gap: float = 0.0) -> None:
        self._seed = seed
        self._sample = sample
        self._like = like
        self._gap = gap
        # By key and kind, before which slice.
        self._begun: dict[tuple[int, bool], tuple[int, Iterator[Tensor]]] = {}

    def __call__(self, key: int, part: slice = slice(None)) -> Tensor:
        """Of the slices `part`, all of them by default: like theirs."""
        return self._drawn(key, part, coarse=True)

    def start(self, part: slice = slice(None)) -> Tensor:
        """As the noise of key 0, less its own local mean in each slice (Gaussian, periodic).

        Coarse noise at the start decides on brightness and contrast over whole regions, of which
        the source says little: what is left to it differs from seed to seed by a tenth and more.
        Without, a sample begins in the middle of the prior in all that is coarse.
        """
        return self._drawn(0, part, coarse=False)

    def _drawn(self, key: int, part: slice, coarse: bool) -> Tensor:
        like = self._like[part]
        start, stop, _ = part.indices(len(self._like))
        reached, following = self._begun.pop((key, coarse), (0, self._slices(key, coarse)))
        if reached > start:
            reached, following = 0, self._slices(key, coarse)
        made = torch.empty(like.shape, dtype=torch.float32)
        for one, noise in zip(made, islice(following, start - reached, None), strict=False):
            one.copy_(noise)
        if stop < len(self._like):
            self._begun[key, coarse] = stop, following
        return made.to(like)

    def _slices(self, key: int, coarse: bool) -> Iterator[Tensor]:
        """One [1, H, W] after the other, without end; what is kept in between is one wave."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._sample, key))
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        shape = self._like.shape[1:]
        frequency = _frequency(*shape[-2:])
        shown = 1.0 if coarse else 1 - torch.exp(-((_COARSE * frequency) ** 2) / 2)
        kept = torch.exp(-self._gap * frequency)
        renewed = (1 - kept**2).sqrt()
        wave = torch.fft.rfft2(torch.randn(shape, generator=generator))
        while True:
            noise = torch.fft.irfft2(shown * wave, s=shape[-2:])
            yield noise
            while self._gap == 0:  # the next is the same
                yield noise
            wave = kept * wave + renewed * torch.fft.rfft2(torch.randn(shape, generator=generator))


def _frequency(height: int, width: int) -> Tensor:
    """Of every wave of `rfft2`, radians a pixel."""
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    return 2 * torch.pi * torch.hypot(rows, columns)


class Told:
    """Passes progress on, and can tell the last of it again."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        self._on_step(progress)

    def again(self, _done: int) -> None:
        """A sign of life where no evaluation is at work, and the caller's chance to end it."""
        assert self._last is not None  # a translation evaluates before it does anything else
        used = memory_bytes(torch.device(self._last.device))
        self._on_step(replace(self._last, eta_s=None, memory_bytes=used, preview=None))


class _Report:
    """Tells the caller how far we are, between batches."""

    def __init__(
        self, plan: Plan, slices: int, slabs: int, device: torch.device, on_step: OnStep | None
    ) -> None:
        self.step = 0
        self._of = plan.samples * plan.evaluations * slabs
        self._work = plan.samples * plan.evaluations * slices
        self._done_before = 0  # of the work, in other evaluations
        self._slices = 0
        self._device = device
        self._on_step = on_step
        self._started = time.monotonic()

    def begin(self, slices: int) -> None:
        """The next evaluation, of so many slices."""
        self.step += 1
        self._done_before += self._slices
        self._slices = slices

    def batch_done(self, done: int) -> None:
        if done < self._slices:  # the last batch is reported with its preview
            self._send(done, None)

    def evaluation_done(self, estimate: Tensor) -> None:
        if self._on_step is not None:
            self._send(self._slices, estimate[self._slices // 2, 0].cpu().numpy().copy())

    def _send(self, done: int, preview: np.ndarray | None) -> None:
        if self._on_step is None:
            return
        share = (self._done_before + done) / self._work
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
