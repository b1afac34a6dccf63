"""Synthetic heads: a source of random contrast and five exactly aligned targets from one plane.

The idea is that of SynthSeg (Billot et al., Med Image Anal 2023) with targets that are images: a
plane of a label map gets a random intensity for each tissue, or the signal of a random sequence,
as the source; the nominal signal equation of each modality gives the targets. The source's
contrast is random, so a network that learns from these pairs serves any source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.intensity import CT_WINDOW
from .tissues import SIGNALS, TissueTable

CONTRASTS = ("t1", "t2", "pd", "flair", "ct")
"""Order of the targets."""

_AIR_HU, _CT_SPAN_HU = -1000.0, 3060.0
_MOST = 1.25  # model units: the brightest value of an image
_CUT_OFF = 0.03  # model units: what is darker counts as air


@dataclass(frozen=True)
class SyntheticHeads:
    """Ranges of the random contrasts; each share is a probability by image.

    Args:
        stripped: share without scalp and skull.
        lesions: share with lesions in the brain.
        sequence: share of sources by signal equation; ct: share of sources that are CT.
        suppressed: share of sources by signal equation with dark fat.
        rician: share of sources whose air is noisy; ghost: with a ghost; cut: with a cut-off edge.
        mixture: largest share of a neighbouring tissue that a tissue holds.
        noise: largest standard deviation of the noise; bias: of the logarithm of the bias field.
    """

    stripped: float = 0.15
    lesions: float = 0.35
    sequence: float = 0.40
    ct: float = 0.09
    suppressed: float = 0.40
    rician: float = 0.40
    ghost: float = 0.10
    cut: float = 0.10
    mixture: float = 0.35
    noise: float = 0.06
    bias: float = 0.30

    def draw(
        self, planes: Tensor, tissues: TissueTable, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Render planes of `draw_planes`.

        Args:
            planes: uint8 [B, H, W, samples], codes of `tissues`.
            tissues: properties of the codes.
            generator: every random number comes from it.

        Returns:
            source [B, 1, H, W] in [0, 1.25], model units, air 0; targets [B, 5, H, W] in the order
            of `CONTRASTS`, [0, 1.25]: fat (T1), fluid (T2, PD) and 1.6 times cortex (FLAIR) are 1,
            CT is (HU + 1000) / 3060; brain [B, 1, H, W], the share of intracranial tissue.
        """
        scene = _Scene(self, tissues, len(planes), generator)
        means = torch.cat((scene.source[..., None], scene.targets), dim=2)  # [B, tissues, 6]
        pure, mixed, brain, matter = _averaged(planes, means, tissues, scene)
        amplitude = self.mixture * scene.uniform(0, 1)[:, :, None, None]
        share = amplitude * _clouds(len(planes), pure.shape[-1], generator)
        images = pure + share * (mixed - pure)
        images = scene.with_lesions(images, brain, matter)
        targets = images[:, 1:].clamp(0, _MOST)
        return acquired(self, images[:, :1], scene), targets, brain


class Draws:
    """Random numbers for a batch of `count` images from one generator."""

    def __init__(self, count: int, g: torch.Generator) -> None:
        self.count, self.g = count, g

    def uniform(self, low: float, high: float) -> Tensor:
        """[B, 1]."""
        return low + (high - low) * torch.rand(self.count, 1, generator=self.g)

    def normal(self, size: int) -> Tensor:
        """[B, size]."""
        return torch.randn(self.count, size, generator=self.g)

    def chance(self, share: float) -> Tensor:
        """Bool [B, 1]."""
        return torch.rand(self.count, 1, generator=self.g) < share


class _Scene(Draws):
    """Random numbers that one batch shares between source and targets."""

    def __init__(
        self, heads: SyntheticHeads, tissues: TissueTable, count: int, g: torch.Generator
    ) -> None:
        super().__init__(count, g)
        self.heads, self.tissues = heads, tissues
        self.stripped = self.chance(heads.stripped)
        size = len(tissues.names)
        groups = tissues.group
        # One more "tissue" for lesions: relaxation of oedema, plaque, tumour or a cyst.
        cyst = self.chance(0.15)
        lesion = (
            torch.where(cyst, self.uniform(1800, 2500), self.uniform(700, 1600)),
            torch.where(cyst, self.uniform(220, 320), self.uniform(95, 220)),
            torch.where(cyst, self.uniform(0.97, 1.0), self.uniform(0.85, 1.0)),
        )
        jitters = (0.06, 0.06, 0.03)
        values = (tissues.t1_ms, tissues.t2_ms, tissues.proton_density)
        self.t1, self.t2, self.pd = (
            torch.cat((v * (j * self.normal(size)).exp()[:, groups], other), dim=1)
            for v, j, other in zip(values, jitters, lesion, strict=True)
        )
        lesion_hu = torch.where(cyst, self.uniform(5, 15), self.uniform(15, 30))
        self.hu = torch.cat((tissues.ct_hu.expand(count, size), lesion_hu), dim=1)
        self.groups = torch.cat((groups, torch.tensor([size])))
        self.source = self._source()
        self.targets = self._targets()

    def _source(self) -> Tensor:
        """Intensity of each tissue in the source, [B, tissues + 1], air 0, any positive scale."""
        size = self.t1.shape[1]
        signals = [signal(self.t1, self.t2, self.pd, self.uniform) for signal in SIGNALS.values()]
        chosen = torch.randint(len(signals), (self.count,), generator=self.g)
        by_sequence = torch.stack(signals, dim=1)[torch.arange(self.count), chosen]
        by_sequence = by_sequence * (0.15 * self.normal(size)).exp()[:, self.groups]
        fat = self.tissues.code("fat")
        dark_fat = torch.where(self.chance(self.heads.suppressed), self.uniform(0.05, 0.5), 1.0)
        by_sequence[:, fat] *= dark_fat[:, 0]
        at_random = torch.rand(self.count, size, generator=self.g)[:, self.groups]
        fluid = self.tissues.codes("cerebrospinal fluid")
        at_random[:, fluid] *= torch.where(self.chance(0.3), 0.1, 1.0)
        at_random[:, self.tissues.code("cortical bone")] *= self.uniform(0, 0.2)[:, 0]
        noisy_hu = self.hu + 8 * self.normal(size)[:, self.groups]
        as_ct = torch.from_numpy(np.interp(noisy_hu.numpy(), *CT_WINDOW)).float()
        kind = torch.rand(self.count, 1, generator=self.g)
        source = torch.where(kind < self.heads.sequence, by_sequence, at_random)
        source = torch.where(kind > 1 - self.heads.ct, as_ct, source)
        source[:, 0] = 0
        return source

    def _targets(self) -> Tensor:
        """Intensity of each tissue in each target, [B, tissues + 1, 5], model units."""
        unit = {"t1": "fat", "t2": "cerebrospinal fluid", "pd": "cerebrospinal fluid"}
        images = []
        for contrast in CONTRASTS[:-1]:
            signal = SIGNALS[contrast](self.t1, self.t2, self.pd, self.uniform)
            of = self.tissues.code(unit.get(contrast, "cerebral cortex"))
            scale = 1.6 if contrast == "flair" else 1.0
            images.append(signal / (scale * signal[:, of : of + 1]))
        images.append(((self.hu - _AIR_HU) / _CT_SPAN_HU).clamp(0, 1))
        targets = torch.stack(images, dim=2)
        targets[:, 0] = 0
        return targets

    def with_lesions(self, images: Tensor, brain: Tensor, matter: Tensor) -> Tensor:
        """Blend soft-edged blobs of the lesion tissue into brain matter, [B, 6, H, W]."""
        chosen = self.chance(self.heads.lesions)[:, 0].nonzero()[:, 0].tolist()
        if not chosen:
            return images
        means = torch.cat((self.source[:, -1:, None], self.targets[:, -1:]), dim=2)[:, 0]
        images = images.clone()
        for index in chosen:
            share = self._blobs(matter[index, 0]) * brain[index, 0]
            value = means[index][:, None, None]
            images[index] += share * (value - images[index])
        return images

    def _blobs(self, matter: Tensor) -> Tensor:
        """Shares 0 to 1 of lesion tissue, [H, W]; centres lie in white matter."""
        size = matter.shape[-1]
        share = torch.zeros_like(matter)
        places = (matter > 0.6).nonzero()
        if len(places) < 12:
            return share
        draw = torch.rand(8, 5, generator=self.g)
        for row in draw[: 1 + int(7 * draw[0, 4] ** 2)]:
            y, x = places[int(row[0] * (len(places) - 1))].tolist()
            radius = 1.0 * (12.0 ** float(row[1]))  # pixels: 1.7 to 20 mm
            ticks = torch.arange(size, dtype=torch.float32)
            distance = torch.hypot((ticks - y)[:, None], (ticks - x)[None]) / radius
            distance += (
                0.25
                * F.interpolate(
                    torch.randn(1, 1, 20, 20, generator=self.g), (size, size), mode="bilinear"
                )[0, 0]
            )
            edge = 0.15 + 0.6 * float(row[2])  # relative width of the border zone
            blob = ((1 - distance) / edge + 0.5).clamp(0, 1) * (0.5 + 0.5 * float(row[3]))
            share = torch.maximum(share, blob)
        return share


def _averaged(
    planes: Tensor, means: Tensor, tissues: TissueTable, scene: _Scene
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean over the samples of each pixel.

    Returns the images of pure tissues and of the tissues that they mix with, [B, 6, H, W] each,
    and the shares of intracranial tissue and of cerebral matter, [B, 1, H, W] each.
    """
    count, side = planes.shape[:2]
    size = len(tissues.names)
    inside = tissues.intracranial.float()[None, :, None].expand(count, -1, 1)
    white = torch.zeros(size)
    white[tissues.codes("cerebral white matter", "cerebellum white matter", "brain stem")] = 1
    own = means[:, :size]
    table = torch.cat(
        (own, own[:, tissues.mixes_with], inside, white[None, :, None].expand(count, -1, 1)), dim=2
    )
    table = torch.where(scene.stripped[:, :, None], table * inside, table)
    offsets = (torch.arange(count, dtype=torch.int32) * size)[:, None, None, None]
    bags = (planes.int() + offsets).flatten(0, 2)
    found = F.embedding_bag(bags, table.flatten(0, 1).contiguous(), mode="mean")
    maps = found.view(count, side, side, -1).permute(0, 3, 1, 2)
    return maps[:, :6], maps[:, 6:12], maps[:, 12:13], maps[:, 13:14]


def _clouds(count: int, size: int, g: torch.Generator) -> Tensor:
    """Non-negative random fields with structure of 2 mm to the whole head, [B, 1, H, W]."""
    field = torch.zeros(count, 1, size, size)
    for cells, weight in ((6, 0.5), (16, 0.5), (size // 2, 0.5)):
        coarse = torch.randn(count, 1, cells, cells, generator=g)
        field += weight * F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)
    return field.clamp(0, 2) / 2


def acquired(heads: SyntheticHeads, source: Tensor, scene: Draws) -> Tensor:
    """The source as a scanner gives it: texture, blur, shift, bias, scale, ghost, noise, a cut."""
    count, size, g = len(source), source.shape[-1], scene.g

    def uniform(low: float, high: float) -> Tensor:
        return scene.uniform(low, high)[:, :, None, None]

    coarse = torch.randn(count, 1, 48, 48, generator=g)
    texture = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)
    source = source * (1 + uniform(0, 0.08) * texture)
    source = _blurred_and_shifted(
        source, scene.uniform(0.3, 1.0), scene.normal(2).clamp(-2, 2) * 0.2
    )
    bias = (torch.rand(count, 1, 4, 4, generator=g) - 0.5) * 2 * heads.bias
    source = source * F.interpolate(bias, (size, size), mode="bilinear", align_corners=True).exp()
    source = source / _bright_end(source) * uniform(0.75, 1.1)
    ghost = source.roll(size // 3, dims=2) * uniform(0.01, 0.06)
    source = source + ghost * scene.chance(heads.ghost)[:, :, None, None]
    level = heads.noise * uniform(0, 1) ** 2
    real = torch.randn(source.shape, generator=g) * level
    imaginary = torch.randn(source.shape, generator=g) * level
    magnitude = torch.hypot(source + real, imaginary)
    masked = torch.where(source > _CUT_OFF, source + real, source)
    source = torch.where(scene.chance(heads.rician)[:, :, None, None], magnitude, masked)
    return (source * _field_of_view(heads, scene, size)).clamp(0, _MOST)


def _field_of_view(heads: SyntheticHeads, scene: Draws, size: int) -> Tensor:
    """1 inside, 0 beyond a cut on one side, [B, 1, H, W]."""
    depth = torch.where(scene.chance(heads.cut), scene.uniform(0.1, 0.35), 0.0)
    ramp = ((torch.arange(size) + 0.5) / size)[None] > depth  # [B, W]
    side = torch.randint(4, (len(depth),), generator=scene.g)
    columns = ramp[:, None, None, :].expand(-1, 1, size, -1).float()
    turned = [columns, columns.flip(3), columns.mT, columns.mT.flip(2)]
    return torch.stack(turned)[side, torch.arange(len(side))]


def _bright_end(source: Tensor) -> Tensor:
    """What becomes 1: the 99.25th percentile inside the head, or twice the median, [B, 1, 1, 1]."""
    sampled = source[:, 0, ::2, ::2].flatten(1)
    head = torch.where(sampled > sampled.mean(1, keepdim=True), sampled, torch.nan)
    bright = head.nanquantile(0.9925, dim=1)
    middle = torch.where(sampled > _CUT_OFF * bright[:, None], sampled, torch.nan).nanmedian(1)
    bright = torch.maximum(bright, 2 * middle.values)
    return bright.nan_to_num(1.0).clamp_min(1e-3)[:, None, None, None]


def _blurred_and_shifted(images: Tensor, sigma: Tensor, shift: Tensor) -> Tensor:
    """Gaussian blur of sigma [B, 1] pixels, moved by shift [B, 2] pixels; [B, 1, H, W]."""
    reach = 3
    ticks = torch.arange(-reach, reach + 1, dtype=images.dtype)
    padded = F.pad(images[:, 0], (reach,) * 4)[None]  # images as groups of one convolution
    kernels = []
    for axis in range(2):
        weights = torch.exp(-0.5 * ((ticks + shift[:, axis : axis + 1]) / sigma) ** 2)
        kernels.append(weights / weights.sum(1, keepdim=True))
    count = len(images)
    moved = F.conv2d(padded, kernels[0][:, None, :, None], groups=count)
    return F.conv2d(moved, kernels[1][:, None, None, :], groups=count)[0][:, None]
