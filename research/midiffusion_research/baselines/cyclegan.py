"""CycleGAN (Zhu et al., arXiv 1703.10593), with the few pairs that arXiv 2301.13743 gives it.

Two generators, source to target (G) and back (F), and a discriminator for either domain. Unpaired
slices, all there are, teach by four losses: each generator's output has to pass for real (least
squares), there and back has to be the start again (cycle), and what is in the target domain already
has to stay as it is (identity). A small share of the slices comes in pairs, with the mean absolute
error against the true partner on top: 2 % in Gold Atlas, 6 % in CuRIOUS, 11 % in IXI.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from midiffusion.images.volume import Volume
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.subject import Subject
from .cyclegan_networks import ImagePool, PatchDiscriminator, ResNetGenerator
from .learning import learn, minimise, moved, seeded, some
from .method import Budget
from .slices import on_grid_of, paired_slices, source_slices

CHANNELS = 64  # of the paper's generators and discriminators, first layer
_BATCH = 4
_LEARNING_RATE = 2e-4
_BETAS = (0.5, 0.999)
_CYCLE, _IDENTITY, _PAIRED = 10.0, 5.0, 10.0
_POOL = 50


class CycleGAN:
    """See the module.

    width: share of the paper's channels, above 0; the name says how many there are. paired_share:
    of the slices, 0 to 1, evenly spaced over the subjects; at least one slice unless it is 0. size:
    side in pixels of the slices that the networks work on, at least 32, a multiple of four. device:
    of torch. seed: of weights, order and augmentation.
    """

    def __init__(
        self,
        *,
        width: float,
        paired_share: float,
        size: int = 128,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        channels = max(1, round(CHANNELS * width))
        self.name = "cyclegan"
        if channels != CHANNELS:
            self.name += f", {channels} of {CHANNELS} channels"
        self.steps = 0
        self._share = paired_share
        self._size = size
        self._device = torch.device(device)
        self._seed = seed
        with seeded(seed, self._device):
            self._there, self._back = (ResNetGenerator(channels).to(self._device) for _ in range(2))
            self._real_source, self._real_target = (
                PatchDiscriminator(channels).to(self._device) for _ in range(2)
            )

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Alternates generators and discriminators for the budget; InvalidData for no subjects."""
        sources, targets = paired_slices(self.name, train, self._size)
        pairs = self._pairs(len(targets))
        generators = _adam(self._there, self._back)
        discriminators = _adam(self._real_source, self._real_target)
        old_sources, old_targets = ImagePool(_POOL), ImagePool(_POOL)
        random = torch.Generator().manual_seed(self._seed)

        def step() -> None:
            # Drawn apart, so that which source belongs to which target is lost.
            (x,) = moved(random, some(sources, _BATCH, random))
            (y,) = moved(random, some(targets, _BATCH, random))
            x, y = self._as_picture(x), self._as_picture(y)
            fake_y, fake_x = self._there(x), self._back(y)
            loss = self._adversarial(fake_x, fake_y) + self._consistency(x, y, fake_x, fake_y)
            if len(pairs):
                rows = some(pairs, _BATCH, random)
                pair = moved(random, sources[rows], targets[rows])
                loss = loss + self._supervised(*(self._as_picture(one) for one in pair))
            minimise(generators, loss)
            judged = (
                (self._real_source, x, old_sources.exchange(fake_x, random)),
                (self._real_target, y, old_targets.exchange(fake_y, random)),
            )
            minimise(discriminators, _judgement(*judged[0]) + _judgement(*judged[1]))

        self.steps = learn(self.name, step, [generators, discriminators], budget)

    @torch.no_grad()
    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units."""
        source = self._as_picture(source_slices(slices, self._size))
        parts = [self._there(part) for part in source.split(_BATCH)]
        return on_grid_of(slices, (torch.cat(parts) + 1) / 2)

    def _pairs(self, count: int) -> Tensor:
        """Indices of the slices whose partner is known."""
        if self._share == 0:
            return torch.zeros(0, dtype=torch.long)
        known = max(1, round(self._share * count))
        return torch.linspace(0, count - 1, known).round().long()

    def _adversarial(self, fake_x: Tensor, fake_y: Tensor) -> Tensor:
        source, target = self._real_source(fake_x), self._real_target(fake_y)
        return (source - 1).square().mean() + (target - 1).square().mean()

    def _consistency(self, x: Tensor, y: Tensor, fake_x: Tensor, fake_y: Tensor) -> Tensor:
        cycle = F.l1_loss(self._back(fake_y), x) + F.l1_loss(self._there(fake_x), y)
        identity = F.l1_loss(self._back(x), x) + F.l1_loss(self._there(y), y)
        return _CYCLE * cycle + _IDENTITY * identity

    def _supervised(self, x: Tensor, y: Tensor) -> Tensor:
        return _PAIRED * (F.l1_loss(self._there(x), y) + F.l1_loss(self._back(y), x))

    def _as_picture(self, images: Tensor) -> Tensor:
        """Model units -> [-1, 1], the range of the generators' last layer, on the device."""
        return images.to(self._device).clamp(0, 1) * 2 - 1


def _judgement(discriminator: PatchDiscriminator, real: Tensor, fake: Tensor) -> Tensor:
    # Half of the sum, as in the paper: discriminators learn more slowly than generators.
    return 0.5 * ((discriminator(real) - 1).square().mean() + discriminator(fake).square().mean())


def _adam(*networks: torch.nn.Module) -> torch.optim.Adam:
    parameters = itertools.chain(*(network.parameters() for network in networks))
    return torch.optim.Adam(parameters, lr=_LEARNING_RATE, betas=_BETAS)
