"""MIDiffusion as published, on our network: what the departures of docs/deviations.md are worth.

As the research code of arXiv 2301.13743 has it: two maps condition the network, LMI(source, x_t) on
the noisy state and LMI(source, source), both by its own estimator with its search; the image in the
role of the source is the target image itself, its contrast as it is; intensities are in [0, 1]; one
ancestral sample is drawn. Ours are the network and its preconditioning, the optimiser, the budget
and the variance-exploding process, whose state is brought to the scale of the variance-preserving
one before the LMI sees it, because that estimator is blind outside [0, 1]; and 50 steps in place of
1000, which the name of the row says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midiffusion_research.training.configuration import TrainingConfig

from ..published_lmi import published_lmi
from .learning import network_of_the_bundles
from .scratch import FromScratch

STEPS = 50
_BATCH = 8
# One self map and one cross map.
_LMI = {
    "dilations": (1,),
    "bandwidths": (0.04,),
    "cross_dilations": (1,),
    "cross_bandwidths": (0.04,),
}


class PublishedCondition:
    """The source's two maps as published; see the module. source: [B, 1, H, W] in [0, 1]."""

    def __init__(self, source: Tensor, self_maps: Tensor | None = None) -> None:
        self._source = source
        self._self_maps = published_lmi(source, source) if self_maps is None else self_maps

    def channels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """[B, 2, H, W]: self map, and cross map with the state x [B, 1, H, W] at level sigma."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)
        # sqrt(a) x0 + sqrt(1 - a) z of a process that preserves variance is (x0 + sigma z) sqrt(a),
        # with sigma^2 = (1 - a) / a.
        preserved = x / (1 + level**2).sqrt()
        return torch.cat((self._self_maps, published_lmi(self._source, preserved)), dim=1)

    def select(self, index: slice) -> PublishedCondition:
        """The condition of some of the slices."""
        return PublishedCondition(self._source[index], self._self_maps[index])


class Published(FromScratch):
    """See the module.

    size: side in pixels of the slices that the network works on. network: arguments of `UNetConfig`
    but the conditioning, by default those of the bundles. device: of torch. seed: of weights,
    order, augmentation and noise.
    """

    def __init__(
        self,
        *,
        size: int = 128,
        network: dict[str, object] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        config = TrainingConfig(
            lmi=_LMI,
            network=network_of_the_bundles() if network is None else network,
            batch=_BATCH,
            seed=seed,
        )
        super().__init__(
            f"published, {STEPS} of 1000 steps",
            config,
            size=size,
            evaluations=STEPS,
            sampler="euler_maruyama",
            device=device,
        )

    def _condition(self, source: Tensor) -> PublishedCondition:
        return PublishedCondition(source.clamp(0, 1))
