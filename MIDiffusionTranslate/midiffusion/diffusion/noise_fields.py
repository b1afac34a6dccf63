"""Noise for a stack of slices: white in each slice, correlated from slice to slice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor


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
        # By key: the next slice, and where it comes from.
        self._begun: dict[int, tuple[int, Iterator[Tensor]]] = {}

    def __call__(self, key: int, part: slice = slice(None)) -> Tensor:
        """Of the slices `part`, all of them by default: like theirs."""
        return self._drawn(key, part)

    def _drawn(self, key: int, part: slice) -> Tensor:
        like = self._like[part]
        start, stop, _ = part.indices(len(self._like))
        reached, following = self._begun.pop(key, (0, self._slices(key)))
        if reached > start:
            reached, following = 0, self._slices(key)
        made = torch.empty(like.shape, dtype=torch.float32)
        for one, noise in zip(made, islice(following, start - reached, None), strict=False):
            one.copy_(noise)
        if stop < len(self._like):
            self._begun[key] = stop, following
        return made.to(like)

    def _slices(self, key: int) -> Iterator[Tensor]:
        """One [1, H, W] after the other, without end; what is kept in between is one wave."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._sample, key))
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        shape = self._like.shape[1:]
        frequency = _frequency(*shape[-2:])
        kept = torch.exp(-self._gap * frequency)
        renewed = (1 - kept**2).sqrt()
        wave = torch.fft.rfft2(torch.randn(shape, generator=generator))
        while True:
            noise = torch.fft.irfft2(wave, s=shape[-2:])
            yield noise
            while self._gap == 0:  # the next is the same
                yield noise
            wave = kept * wave + renewed * torch.fft.rfft2(torch.randn(shape, generator=generator))


def _frequency(height: int, width: int) -> Tensor:
    """Of every wave of `rfft2`, radians a pixel."""
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    return 2 * torch.pi * torch.hypot(rows, columns)
