"""One-pass regressors: a U-Net from the source straight to the target, no diffusion, no LMI.

Two rows that frame ours. `regressor` is the strongest zero-shot rival: it sees target images alone,
with their contrast randomised in the role of the source, exactly the pseudo-source of our own
training. `paired` sees true pairs, which no zero-shot method does: the upper bound. Network,
geometry augmentation, optimiser and loss are the same; they differ in what is put in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InvalidData
from ...intensity import SourceIntensity
from ...network import UNet, UNetConfig
from ...training.augmentation import RandomContrast, RandomGeometry
from ...volume import Volume
from ..datasets.subject import Subject, area_average, as_acquired
from .method import Budget

_BATCH = 8
_LEARNING_RATE = 1e-3
_WARMUP_STEPS = 50
# In the name of the row where it differs from the bundles' own.
CHANNELS = (32, 64, 112, 144)


class Regressor:
    """See the module.

    paired: learn from pairs. size: side in pixels of the slices that the network works on; larger
    ones are averaged down to it, and its output is resampled back (so figures above this size are
    those of a blurred image). channels: widths of the network. device: of torch. seed: of weights,
    order and augmentation.
    """

    def __init__(
        self,
        *,
        paired: bool,
        size: int = 128,
        channels: tuple[int, ...] = CHANNELS,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.name = "paired" if paired else "regressor"
        self.steps = 0
        self._paired = paired
        self._size = size
        self._device = torch.device(device)
        self._random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = UNet(UNetConfig(cond_channels=0, channels=channels))
        self._network = network.to(self._device)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Minimises the mean absolute error for the budget. Raises InvalidData for no subjects."""
        if not train:
            raise InvalidData(f"The method '{self.name}' needs training subjects.")
        targets = _stack([area_average(subject.target, self._size) for subject in train])
        sources = _stack([self._source(s.source) for s in train]) if self._paired else targets
        optimiser = torch.optim.Adam(self._network.parameters(), lr=_LEARNING_RATE)
        started = time.monotonic()
        self._network.train()
        while not budget.spent(elapsed := time.monotonic() - started, self.steps):
            for group in optimiser.param_groups:
                group["lr"] = _rate(budget, elapsed, self.steps)
            source, target = (part.to(self._device) for part in self._batch(sources, targets))
            loss = F.l1_loss(self._forward(source), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            self.steps += 1
        self._network.eval()

    @torch.no_grad()
    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units."""
        source = torch.from_numpy(self._source(slices))[:, None]
        parts = [self._forward(part.to(self._device)).cpu() for part in source.split(_BATCH)]
        output = torch.cat(parts)
        height, width = slices.data.shape[1:]
        if (height, width) != (self._size, self._size):
            output = F.interpolate(output, (height, width), mode="bicubic")
        return output[:, 0].numpy()

    def _batch(self, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        geometry, contrast, random = RandomGeometry(), RandomContrast(), self._random
        rows = torch.randint(len(targets), (_BATCH,), generator=random)
        place = geometry.draw(_BATCH, random)
        target = geometry.apply(targets[rows], place)
        if self._paired:
            return geometry.apply(sources[rows], place), target
        return contrast.apply(target, contrast.draw(target, random)), target

    def _forward(self, source: Tensor) -> Tensor:
        # Correction of the source: the output layer starts at zero, so training starts at identity.
        level = source.new_zeros(len(source))
        none = source.new_zeros(len(source), 0, *source.shape[2:])
        return source + self._network(source, level, none)

    def _source(self, slices: Volume) -> NDArray[np.float32]:
        """[S, size, size] on the scale that a source has in our own path too."""
        acquired = as_acquired(slices)
        data, _ = SourceIntensity().forward(acquired.data, acquired.modality)
        return area_average(data, self._size)


def _stack(images: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.concatenate(images))[:, None]


def _rate(budget: Budget, seconds: float, steps: int) -> float:
    """Warm-up, then a line down to zero at the end of the budget."""
    shares = [seconds / budget.seconds if budget.seconds else 0.0]
    shares.append(steps / budget.steps if budget.steps else 0.0)
    return _LEARNING_RATE * min(1.0, (steps + 1) / _WARMUP_STEPS) * (1.0 - max(shares))
