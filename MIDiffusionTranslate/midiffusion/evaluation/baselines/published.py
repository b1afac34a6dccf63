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

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...conditioning import LMICondition, LMISettings
from ...lmi import LocalMutualInformation
from ...loss import denoising_loss, draw_sigma
from ...noise import karras_sigmas, perturb
from ...samplers import SAMPLERS
from ...sampling import SharedNoise
from ...training.configuration import TrainingConfig
from ...training.ema import PowerAverage
from ...training.loop import build_denoiser
from ...volume import Volume
from ..datasets.subject import Subject
from .integration import integrate
from .learning import learn, minimise, moved, network_of_the_bundles, some
from .method import Budget
from .slices import on_grid_of, source_slices, target_slices

STEPS = 50
_BATCH = 8
# One self map and one cross map; the noise level never hides the cross map.
_LMI = {
    "estimator": "reference",
    "dilations": (1,),
    "bandwidths": (0.04,),
    "cross_dilations": (1,),
    "cross_bandwidths": (0.04,),
    "cross_sigma_max": math.inf,
}


class PublishedCondition(LMICondition):
    """The source's two maps as published; see the module. source: [B, 1, H, W] in [0, 1]."""

    def __init__(self, source: Tensor, self_maps: Tensor | None = None) -> None:
        self._lmi = LocalMutualInformation("reference", search="shift")
        maps = self._lmi(source, source) if self_maps is None else self_maps
        super().__init__(source, LMISettings(**_LMI), self_maps=maps)  # type: ignore[arg-type]

    def channels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """[B, 2, H, W]: self map, and cross map with the state x [B, 1, H, W] at level sigma."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)
        # sqrt(a) x0 + sqrt(1 - a) z of a process that preserves variance is (x0 + sigma z) sqrt(a),
        # with sigma^2 = (1 - a) / a.
        preserved = x / (1 + level**2).sqrt()
        return torch.cat((self.self_maps, self._lmi(self.source, preserved)), dim=1)

    def select(self, index: slice) -> PublishedCondition:
        """The condition of some of the slices."""
        return PublishedCondition(self.source[index], self.self_maps[index])


class Published:
    """See the module.

    size: side in pixels of the slices that the network works on. network: arguments of `UNetConfig`
    but the conditioning, by default those of the bundles. device: of torch. seed: of weights,
    order, augmentation and noise.
    """

    name = f"published, {STEPS} of 1000 steps"

    def __init__(
        self,
        *,
        size: int = 128,
        network: dict[str, object] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.steps = 0
        self._size = size
        self._device = torch.device(device)
        self._seed = seed
        self._config = TrainingConfig(
            card={},
            sources=(),
            intensity={},
            lmi=_LMI,
            network=network_of_the_bundles() if network is None else network,
            seed=seed,
        )
        self._average: PowerAverage | None = None

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Trains the denoiser on the targets alone. Raises InvalidData for no subjects."""
        images = target_slices(self.name, train, self._size)
        denoiser = build_denoiser(self._config, float(images.square().mean().sqrt()))
        denoiser = denoiser.to(self._device)
        average = self._average = PowerAverage(denoiser, self._config.ema)
        optimiser = torch.optim.Adam(
            denoiser.parameters(), lr=self._config.learning_rate, betas=(0.9, 0.99)
        )
        random = torch.Generator().manual_seed(self._seed)
        taken = 0

        def step() -> None:
            nonlocal taken
            (x0,) = moved(random, some(images, _BATCH, random))
            x0, sigma, noise = (part.to(self._device) for part in self._noise(x0, random))
            condition = PublishedCondition(x0.clamp(0, 1))
            loss = denoising_loss(denoiser, x0, condition, sigma, noise).mean()
            minimise(optimiser, loss)
            taken += 1
            average.update(denoiser, taken)

        self.steps = learn(self.name, step, [optimiser], budget)

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units: one sample. RuntimeError before `fit`."""
        if self._average is None:
            raise RuntimeError("fit() comes before translate()")
        source = source_slices(slices, self._size).clamp(0, 1).to(self._device)
        low, high = self._config.sigma_min, self._config.sigma_max
        noise = SharedNoise(self._seed, 0, source)
        image = integrate(
            self._average.average,
            PublishedCondition(source),
            perturb(torch.zeros_like(source), high, noise(0)),
            karras_sigmas(STEPS, low, high),
            SAMPLERS["euler_maruyama"],
            noise,
        )
        return on_grid_of(slices, image.clamp(min=0))

    def _noise(self, x0: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images, levels and noise of one batch, drawn as in our own training."""
        config, count = self._config, len(x0)
        strata = (torch.arange(count) + torch.rand(count, generator=random)) / count
        sigma = draw_sigma(
            strata, config.sigma_mean, config.sigma_std, config.sigma_min, config.sigma_max
        )
        return x0, sigma, torch.randn(x0.shape, generator=random)
