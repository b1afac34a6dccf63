"""Training of the backbone: regression of five contrasts and the brain on synthetic heads."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion.backbone import OUTPUTS, Backbone
from ..diffusion.conditioning import LMICondition, LMISettings
from ..diffusion.network import UNetConfig
from .label_planes import PlaneSettings, draw_planes, read_label_maps
from .loop import LoopConfig, TrainingRun
from .random_geometry import RandomGeometry
from .self_made_sources import ct_source, self_made_sources
from .synthetic_heads import SyntheticHeads
from .tissues import TissueTable


@dataclass(frozen=True)
class BackboneTrainingConfig(LoopConfig):
    """A run of backbone training.

    Args:
        planes: label planes held ready; one of them is drawn anew after `renew_steps` steps.
        brain_weight: weight of intracranial pixels in the loss; other pixels have 1.
        real: images of each batch that are real, where there are real images of one contrast.
        real_weight: weight of their pixels.
        lmi, network, heads, geometry: settings of the parts.
    """

    planes: int = 4000
    renew_steps: int = 4
    brain_weight: float = 2.0
    real: int = 8
    real_weight: float = 2.0
    lmi: LMISettings = field(default_factory=lambda: LMISettings(source=True))
    network: dict[str, object] = field(
        default_factory=lambda: {"channels": (32, 64, 112, 144), "blocks": 1, "patch": 2}
    )
    heads: SyntheticHeads = field(default_factory=SyntheticHeads)
    geometry: PlaneSettings = field(default_factory=PlaneSettings)

    def build(self) -> Backbone:
        """A fresh backbone; its initial weights depend on `seed` alone."""
        channels = self.lmi.fixed_channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            config = UNetConfig(cond_channels=channels, outputs=len(OUTPUTS), **self.network)  # type: ignore[arg-type]
            return Backbone(config)


class BackboneTraining(TrainingRun):
    """Regression (absolute and squared error) on synthetic heads and, for one contrast, on real
    images with self-made sources.

    Args:
        config: see `BackboneTrainingConfig`.
        heads: folder of label maps; None: real images alone.
        start: backbone to start from; None for fresh weights.
        real: real images [N, 1, H, W] of one contrast, model units; None: synthetic heads alone.
        contrast: which one; their self-made sources are drawn by the backbone at the start.

    Raises:
        InvalidData: unusable label maps, see `read_label_maps`.
    """

    def __init__(
        self,
        config: BackboneTrainingConfig,
        heads: Path | None,
        start: Backbone | None = None,
        real: Tensor | None = None,
        contrast: str = "",
    ) -> None:
        model = copy.deepcopy(start) if start is not None else config.build()
        super().__init__(config, model.requires_grad_(True).train(), OUTPUTS)
        self.settings = config
        self.tissues = TissueTable.read()
        self.maps = [] if heads is None else read_label_maps(heads, self.tissues)
        self.planes: Tensor | None = None
        self.real = real
        if real is not None:
            self.contrast = OUTPUTS.index(contrast)
            self.teacher = copy.deepcopy(model).requires_grad_(False).eval()

    def _draw_planes(self, count: int) -> Tensor:
        geometry = self.settings.geometry
        return draw_planes(self.maps, self.tissues, count, self.generator, geometry)

    def _chosen_planes(self, count: int) -> Tensor:
        """Some of the label planes held ready."""
        g = self.generator
        if self.planes is None:
            self.planes = self._draw_planes(-(-self.settings.planes // self.processes.count))
        elif self.step % self.settings.renew_steps == 0:
            where = int(torch.randint(len(self.planes), (1,), generator=g))
            self.planes[where] = self._draw_planes(1)[0]
        return self.planes[torch.randint(len(self.planes), (count,), generator=g)]

    def losses(self) -> Tensor:
        """Loss of each output, [6]."""
        config, g = self.settings, self.generator
        real = 0 if self.real is None else config.real * self.batch // config.batch
        parts = []
        if real < self.batch:
            planes = self._chosen_planes(self.batch - real)
            source, targets, brain = config.heads.draw(planes, self.tissues, g)
            weight = (1 + (config.brain_weight - 1) * brain).expand(-1, len(OUTPUTS), -1, -1)
            parts.append((source, torch.cat((targets, brain), dim=1), weight))
        if real:
            parts.append(self._real_batch(real))
        source, targets, weight = (torch.cat(part) for part in zip(*parts, strict=True))
        source, targets, weight = (x.to(self.device) for x in (source, targets, weight))
        condition = LMICondition(source, config.lmi).fixed
        with torch.autocast(self.device.type, torch.bfloat16):
            drawn = self.model(condition)
        error = drawn.float() - targets
        return (weight * (error.abs() + 4 * error.square())).mean((0, 2, 3))

    def _real_batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Self-made sources, real images in the place of their contrast, and weights that are 0 in
        all other places."""
        assert self.real is not None
        g, geometry = self.generator, RandomGeometry()
        image = self.real[torch.randint(len(self.real), (count,), generator=g)]
        image = geometry.apply(image, geometry.draw(count, g))
        shown = image
        if self.contrast == OUTPUTS.index("ct"):
            shown = ct_source(image)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            drawn = self.teacher(LMICondition(shown, self.settings.lmi).fixed).float()
        source = self_made_sources(shown, drawn, self.settings.heads, g)
        targets = torch.zeros(count, len(OUTPUTS), *image.shape[2:])
        weight = torch.zeros_like(targets)
        targets[:, self.contrast] = image[:, 0]
        weight[:, self.contrast] = self.settings.real_weight
        return source, targets, weight
