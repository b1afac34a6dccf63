"""StyleGAN2 (Karras et al., arXiv 1912.04958) as a translator: the source, inverted in W+.

The generator learns the target's slices alone. To translate, its latents, one for each layer, are
sought by gradient descent until the generated image is as near as possible to the *source*: what
comes out is an image of the target domain that looks like the source. Nothing tells the method that
contrasts differ; that is the weakness of inversion as a translation, not of this row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from midiffusion.errors import InvalidParameter
from midiffusion.images.volume import Volume
from numpy.typing import NDArray
from torch import Tensor, nn

from ..datasets.subject import Subject
from .learning import learn, minimise, moved, seeded, some
from .method import Budget
from .slices import on_grid_of, source_slices, target_slices
from .stylegan2_networks import Discriminator, MappingNetwork, SynthesisNetwork, channels_at

INVERSION_STEPS = 100
_FULL_WIDTH = 512
_BATCH = 8
_LEARNING_RATE = 2e-3
_BETAS = (0.0, 0.99)
_MIXING = 0.9  # share of training images whose layers take two different w
_R1_EVERY = 16
_EMA_IMAGES = 10_000  # half-life of the average of the generator's weights
_INVERSION_RATE = 0.1
_COARSEST = 8  # pixels, of the pyramid that images are compared in


class Generator(nn.Module):
    """Mapping and synthesis; [B, 1, size, size], about [-1, 1]."""

    def __init__(self, size: int, width: float) -> None:
        super().__init__()
        self.latent = channels_at(4, width)
        self.mapping = MappingNetwork(self.latent)
        self.synthesis = SynthesisNetwork(size, width)

    def forward(self, count: int) -> Tensor:
        """`count` random images, with style mixing."""
        layers = self.synthesis.layers
        device = self.synthesis.start.device
        z = torch.randn(2 * count, self.latent, device=device)
        first, second = self.mapping(z).chunk(2)
        crossover = torch.randint(1, layers, (count, 1, 1), device=device)
        crossover[torch.rand(count, device=device) >= _MIXING] = layers
        later = torch.arange(layers, device=device)[None, :, None] >= crossover
        image: Tensor = self.synthesis(torch.where(later, second[:, None], first[:, None]))
        return image


class StyleGAN2:
    """See the module.

    width: share of the paper's channels, above 0; the name says how many there are. size: side in
    pixels of the slices, a power of two from 8. inversion_steps: of the descent to the latents of a
    source. device: of torch. seed: of weights, order, augmentation and noise.

    Raises InvalidParameter for another size.
    """

    def __init__(
        self,
        *,
        width: float,
        size: int = 128,
        inversion_steps: int = INVERSION_STEPS,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if size < 8 or size & (size - 1):
            raise InvalidParameter(f"stylegan2 works on 8, 16, 32, ... pixels, not on {size}.")
        self.name = "stylegan2"
        if channels_at(4, width) != _FULL_WIDTH:
            self.name += f", {channels_at(4, width)} of {_FULL_WIDTH} channels"
        self.steps = 0
        self._size = size
        self._inversion_steps = inversion_steps
        self._device = torch.device(device)
        self._seed = seed
        with seeded(seed, self._device):
            self._generator = Generator(size, width).to(self._device)
            self._discriminator = Discriminator(size, width).to(self._device)
        self._average = copy.deepcopy(self._generator).requires_grad_(False)

    def fit(self, train: Sequence[Subject], budget: Budget) -> None:
        """Alternates discriminator and generator for the budget; InvalidData for no subjects."""
        images = target_slices(self.name, train, self._size)
        optimiser = torch.optim.Adam(self._generator.parameters(), lr=_LEARNING_RATE, betas=_BETAS)
        # Appendix B: the regularisation of every 16th step is a step of its own, and its gradient
        # 16 times as large; rate and moments allow for it.
        lazy = _R1_EVERY / (_R1_EVERY + 1)
        critic = torch.optim.Adam(
            self._discriminator.parameters(),
            lr=_LEARNING_RATE * lazy,
            betas=(_BETAS[0] ** lazy, _BETAS[1] ** lazy),
        )
        random = torch.Generator().manual_seed(self._seed)
        taken = 0

        def step() -> None:
            nonlocal taken
            (real,) = moved(random, some(images, _BATCH, random))
            real = _as_picture(real.to(self._device))
            fake = self._generator(_BATCH).detach()
            judge = self._discriminator
            minimise(critic, (F.softplus(judge(fake)) + F.softplus(-judge(real))).mean())
            if taken % _R1_EVERY == 0:
                minimise(critic, _R1_EVERY * gradient_penalty(judge, real))
            minimise(optimiser, F.softplus(-judge(self._generator(_BATCH))).mean())
            taken += 1
            self._follow(taken * _BATCH)

        with seeded(self._seed, self._device):
            self.steps = learn(self.name, step, [optimiser, critic], budget)

    def translate(self, slices: Volume) -> NDArray[np.float32]:
        """[S, H, W] in model units."""
        source = source_slices(slices, self._size)
        parts = [self._invert(_as_picture(part.to(self._device))) for part in source.split(_BATCH)]
        return on_grid_of(slices, ((torch.cat(parts) + 1) / 2).clamp(min=0))

    @torch.no_grad()
    def _follow(self, seen: int) -> None:
        """Moves the average of the generator's weights; `seen` images so far. Its half-life starts
        as a twentieth of them, or a short training would end before its start is forgotten."""
        kept = 0.5 ** (_BATCH / min(_EMA_IMAGES, 0.05 * seen))
        pairs = zip(self._average.parameters(), self._generator.parameters(), strict=True)
        for ours, theirs in pairs:
            ours.lerp_(theirs, 1 - kept)

    def _invert(self, wanted: Tensor) -> Tensor:
        """The generated images nearest to `wanted`, [B, 1, size, size], by descent in W+.

        The projector of appendix D, with these differences: one w per layer; in the place of the
        perceptual distance, which needs a network trained on photographs, the squared error in a
        pyramid of halved images; the noise inputs are off, since noise maps that are sought too
        can copy any source pixel by pixel. Noise on w is shared by all slices.
        """
        random = torch.Generator().manual_seed(self._seed)
        z = torch.randn(4096, self._average.latent, generator=random).to(self._device)
        known = self._average.mapping(z)
        spread = (known - known.mean(dim=0)).square().sum(dim=1).mean().sqrt()
        layers = self._average.synthesis.layers
        w = known.mean(dim=0).expand(len(wanted), layers, -1).clone().requires_grad_()
        optimiser = torch.optim.Adam([w], lr=_INVERSION_RATE)
        for number in range(self._inversion_steps):
            done = number / self._inversion_steps
            end = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / 0.25))
            optimiser.param_groups[0]["lr"] = _INVERSION_RATE * end * min(1.0, (done + 0.01) / 0.05)
            shake = torch.randn(w.shape[1:], generator=random).to(self._device)
            strength = 0.05 * max(0.0, 1 - done / 0.75) ** 2 * spread
            image = self._average.synthesis(w + strength * shake, noisy=False)
            minimise(optimiser, pyramid_distance(image, wanted))
        with torch.no_grad():
            found: Tensor = self._average.synthesis(w, noisy=False)
        return found


def gradient_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406): gamma / 2 times the squared norm of the score's gradient at real
    images, mean over them; gamma by the rule of arXiv 2006.06676, 0.0002 pixels / batch."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    gamma = 2e-4 * real[0].numel() / len(real)
    return gamma / 2 * gradient.square().sum(dim=(1, 2, 3)).mean()


def pyramid_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference at full size, half, quarter, ... down to 8 pixels, summed over sizes
    and images: no image's gradient depends on the others."""
    total = first.new_zeros(())
    while True:
        total = total + (first - second).square().mean(dim=(1, 2, 3)).sum()
        if first.shape[-1] <= _COARSEST:
            return total
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)


def _as_picture(images: Tensor) -> Tensor:
    """Model units -> [-1, 1]."""
    return images.clamp(0, 1) * 2 - 1
