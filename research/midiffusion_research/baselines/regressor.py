"""One-pass regressors: a U-Net from the source straight to the target, no diffusion, no LMI.

Two rows that frame ours. `regressor` is the strongest zero-shot rival: it sees target images alone,
with their contrast randomised in the role of the source, exactly the pseudo-source of our own
training. `paired` sees true pairs, which no zero-shot method does: the upper bound. Network,
geometry augmentation, optimiser and loss are the same; they differ in what is put in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from midiffusion.diffusion.network import UNet, UNetConfig
from midiffusion.images.volume import Volume
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.subject import Subject
from .learning import (
    contrast_of_the_bundles,
    learn,
    minimise,
    moved,
    network_of_the_bundles,
    seeded,
)
from .method import Budget
from .slices import on_grid_of, paired_slices, source_slices, target_slices

_BATCH = 8
_LEARNING_RATE = 1e-3


class Regressor:
    """See the module.

    paired: learn from pairs. size: side in pixels of the slices that the network works on; larger
    ones are averaged down to it, and its output is resampled back (so figures above this size are
    those of a blurred image). network: arguments of `UNetConfig`, by default those of the bundles.
    device: of torch. seed: of weights, order and augmentation.
    """

    def __init__(
        self,
        *,
        paired: bool,
        size: int = 128,
        network: dict[str, object] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.name = "paired" if paired else "regressor"
        self.steps = 0
        self._paired = paired
        self._size = size
        self._device = torch.device(device)
        self._random = torch.Generator().manual_seed(seed)
        shape = network_of_the_bundles() if network is None else network
        with seeded(seed, self._device):
            unet = UNet(UNetConfig(cond_channels=0, **shape))  # type: ignore[arg-type]
        self._network = unet.to(self._device)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Minimises the mean absolute error for the budget. Raises InvalidData for no subjects."""
        if self._paired:
            sources, targets = paired_slices(self.name, train, self._size)
        else:
            sources = targets = target_slices(self.name, train, self._size)
            self._contrast = contrast_of_the_bundles(train[0].target_modality)
        optimiser = torch.optim.Adam(self._network.parameters(), lr=_LEARNING_RATE)

        def step() -> None:
            source, target = (part.to(self._device) for part in self._batch(sources, targets))
            minimise(optimiser, F.l1_loss(self._forward(source), target))

        self._network.train()
        self.steps = learn(self.name, step, [optimiser], budget)
        self._network.eval()

    @torch.no_grad()
    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units."""
        source = source_slices(slices, self._size)
        parts = [self._forward(part.to(self._device)) for part in source.split(_BATCH)]
        return on_grid_of(slices, torch.cat(parts))

    def _batch(self, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        random = self._random
        rows = torch.randint(len(targets), (_BATCH,), generator=random)
        if self._paired:
            target, source = moved(random, targets[rows], sources[rows])
            return source, target
        (target,) = moved(random, targets[rows])
        contrast = self._contrast
        return contrast.apply(target, contrast.draw(target, random)), target

    def _forward(self, source: Tensor) -> Tensor:
        # Correction of the source: the output layer starts at zero, so training starts at identity.
        level = source.new_zeros(len(source))
        none = source.new_zeros(len(source), 0, *source.shape[2:])
        return source + self._network(source, level, none)
