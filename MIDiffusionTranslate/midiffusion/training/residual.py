"""Training of the residual denoiser: diffusion of what the mean of a target leaves open.

Eq. 12 of arXiv 2301.13743 in EDM's weighting (arXiv 2206.00364), on x0 - B: real images of MR
targets with self-made sources, and synthetic heads beside them. The backbone and the looks are
frozen. One denoiser serves all MR targets; B tells it which.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..diffusion.backbone import CONTRASTS, Backbone
from ..diffusion.conditioning import LMICondition, LMISettings
from ..diffusion.denoiser import ResidualDenoiser
from ..diffusion.loss import denoising_loss
from ..diffusion.network import UNet, UNetConfig
from ..pipeline.look import apply_look
from .loop import LoopConfig, TrainingRun
from .random_geometry import RandomGeometry
from .self_made_sources import self_made_sources
from .synthetic_heads import SyntheticHeads


@dataclass(frozen=True)
class ResidualTrainingConfig(LoopConfig):
    """A run of denoiser training.

    Args:
        sigma_data: root mean square of the residual, model units.
        log_sigma: mean and standard deviation of ln sigma, the noise levels of the loss.
        highest_sigma: largest noise level.
        noises: noise levels for each prepared image; preparing one costs as much as a step on it.
        lmi, heads: settings of the condition and of the sources.
    """

    sigma_data: float = 0.1
    log_sigma: tuple[float, float] = (-2.2, 1.0)
    highest_sigma: float = 0.6
    noises: int = 4
    lmi: LMISettings = field(default_factory=lambda: LMISettings(source=True))
    heads: SyntheticHeads = field(default_factory=SyntheticHeads)


@dataclass(frozen=True, eq=False)
class RealImages:
    """Real images of one target.

    images: [N, 1, H, W], model units. contrast: its backbone output. look: see `apply_look`.
    """

    images: Tensor
    contrast: str
    look: Tensor | None


def build_denoiser(backbone: Backbone, lmi: LMISettings, sigma_data: float) -> ResidualDenoiser:
    """A denoiser of the backbone's shape that starts from its weights and at zero residual."""
    config = backbone.network.config
    taken = lmi.fixed_channels
    channels = lmi.channels + 1  # the mean
    network = UNet(
        UNetConfig(
            cond_channels=channels,
            channels=config.channels,
            blocks=config.blocks,
            patch=config.patch,
            embedding=config.embedding,
        )
    )
    known, fresh = backbone.network.state_dict(), network.state_dict()
    folded = config.patch**2
    for name, value in known.items():
        if name == "inlet.weight":
            # State, then fixed maps: as in the backbone. Cross map and mean start small.
            count = (1 + taken) * folded
            inlet = 0.02 * torch.randn_like(fresh[name])
            inlet[:, folded:count] = value[:, folded:count]
            fresh[name] = inlet
        elif not name.startswith("outlet."):
            fresh[name] = value.clone()
    network.load_state_dict(fresh)
    return ResidualDenoiser(network, sigma_data)


class ResidualTraining(TrainingRun):
    """Denoising score matching on residuals.

    Args:
        config: see `ResidualTrainingConfig`.
        backbone: frozen; on the CPU.
        targets: real images; every batch is drawn from all of them in equal parts.
        start: denoiser to start from; None: from the backbone's weights.
    """

    def __init__(
        self,
        config: ResidualTrainingConfig,
        backbone: Backbone,
        targets: list[RealImages],
        start: ResidualDenoiser | None = None,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = start or build_denoiser(backbone, config.lmi, config.sigma_data)
        super().__init__(config, model.requires_grad_(True).train(), ("loss",))
        self.settings, self.targets = config, targets
        self.backbone = backbone.requires_grad_(False).eval()

    def losses(self) -> Tensor:
        """Eq. 12 with EDM's weight, [1]."""
        config, g = self.settings, self.generator
        share = self.batch // (len(self.targets) * config.noises)
        parts = [self._batch(t, share) for t in self.targets]
        x0, source, maps, mean = (
            torch.cat(part).repeat(config.noises, 1, 1, 1) for part in zip(*parts, strict=True)
        )
        count = len(x0)
        middle, width = config.log_sigma
        sigma = (middle + width * torch.randn(count, generator=g)).exp()
        sigma = sigma.clamp(0.01, config.highest_sigma)
        noise = torch.randn(x0.shape, generator=g)
        condition = LMICondition(source, config.lmi, self_maps=maps)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                estimate: Tensor = self.model(x, sigma, condition.channels(x, sigma), mean)
            return estimate

        return denoising_loss(denoise, x0, sigma, noise, config.sigma_data).mean()[None]

    @torch.no_grad()
    def _batch(self, target: RealImages, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, self-made sources, their LMI maps, and means: [count, C, H, W] each."""
        g, geometry, lmi = self.generator, RandomGeometry(), self.settings.lmi
        x0 = target.images[torch.randint(len(target.images), (count,), generator=g)]
        x0 = geometry.apply(x0, geometry.draw(count, g))
        with torch.autocast("cpu", torch.bfloat16):
            drawn = self.backbone(LMICondition(x0, lmi).fixed).float()
            source = self_made_sources(x0, drawn, self.settings.heads, g)
            condition = LMICondition(source, lmi)
            outputs = self.backbone(condition.fixed).float()
        index = CONTRASTS.index(target.contrast)
        mean = outputs[:, index : index + 1]
        if target.look is not None:
            mean = apply_look(target.look, outputs, index)
        mean = mean.clamp(0, 1.25)
        # The scale of the mean: what a source can't know is no residual.
        scale = (x0 * mean).sum((1, 2, 3)) / mean.square().sum((1, 2, 3)).clamp_min(1e-3)
        return x0 / scale.clamp(0.5, 2)[:, None, None, None], source, condition.self_maps, mean
