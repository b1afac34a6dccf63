"""Random geometry for the training image, random contrast for the image in the role of the source.

In training the target image itself plays the source. Unless its contrast is randomised, the model
learns that LMI maps of a source always look like those of its own modality; with it, the source
role becomes modality-free (the idea of SynthSeg, arXiv 2107.09559, for LMI-conditioned diffusion).

Every augmentation draws its random parameters apart from a pure function that applies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from midiffusion.images.anatomy import AIR
from midiffusion.training.random_geometry import RandomGeometry as RandomGeometry
from torch import Tensor


def _uniform(size: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator) * (high - low) + low


@dataclass(frozen=True)
class ContrastParameters:
    """What one draw of `RandomContrast` applies; the first dimension is the image."""

    table: Tensor
    shading: Tensor
    bias: Tensor
    blur: Tensor
    noise: Tensor
    noisy_air: Tensor
    shift: Tensor
    gain: Tensor


@dataclass(frozen=True)
class RandomContrast:
    """A random acquisition of the same anatomy.

    A non-monotone piecewise-linear intensity map, blended with the identity by a random weight
    (near modalities stay covered); structure that the target does not show; then bias field, blur,
    sub-pixel misregistration, noise.

    Args:
        knots: largest number of knots of the intensity map.
        knots_at: where they lie: at intensities that the head really has ("tissue", so that
            tissues, not air, receive random values) or anywhere ("uniform"). In CT nearly all
            tissue has one intensity, and knots there would turn its noise into structure.
        plateaus: share of intensity maps that are steps between a few levels: what has one
            intensity in the source (a brain in CT) can have many in the target.
        texture: largest relative amplitude of structure that is not in the target: an MR source
            shows much in the brain that a CT does not.
        suppression: share of images whose fat is dark in the source alone, whatever the intensity
            map made of it. What is much brighter than most of the head in the target is taken for
            fat (and vessels and bright lesions with it): meant for T1, where fat is brightest.
        bias: largest amplitude of the logarithm of the bias field.
        blur: largest standard deviation of the blur, pixels.
        noise: largest standard deviation of the noise, model units.
        shift: largest misregistration either way, pixels.
    """

    knots: int = 8
    knots_at: Literal["tissue", "uniform"] = "tissue"
    plateaus: float = 0.0
    texture: float = 0.0
    suppression: float = 0.0
    bias: float = 0.3
    blur: float = 0.8
    noise: float = 0.04
    shift: float = 0.5

    TABLE = 256  # entries of an intensity table over [0, 1.25]
    GAP = 0.04  # smallest distance between knots at tissue
    OCTAVES = (6, 12, 20, 32, 48)  # of the texture: cells along the image side

    def draw(self, images: Tensor, generator: torch.Generator) -> ContrastParameters:
        """Random parameters for images [B, 1, H, W] in model units."""
        count = len(images)
        return ContrastParameters(
            table=torch.stack([self._table(image, generator) for image in images]),
            shading=self._texture(images, generator) * self._fat(images, generator),
            bias=_uniform((count, 1, 4, 4), -self.bias, self.bias, generator),
            blur=self.blur * _uniform((count,), 0, 1, generator),
            noise=self._noise(images, generator),
            noisy_air=(torch.rand(count, 1, 1, 1, generator=generator) < 0.3).float(),
            shift=_uniform((count, 2), -self.shift, self.shift, generator),
            gain=_uniform((count, 1, 1, 1), 0.75, 1.1, generator),
        )

    def _table(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """One random intensity table, [TABLE]."""
        at = torch.linspace(0.0, 1.25, self.TABLE)
        if float(torch.rand(1, generator=generator)) < self.plateaus:
            steps = int(torch.randint(2, 6, (1,), generator=generator))
            edges = _uniform((steps,), AIR, 1.0, generator).sort().values
            edges[0] = AIR
            levels = torch.cat((torch.zeros(1), _uniform((steps,), 0.05, 1.0, generator)))
            return levels[torch.searchsorted(edges, at, right=True)]
        inner = self._knots(image, generator)
        knots = torch.tensor([0.0, AIR, *inner, 1.26])
        weight = torch.rand(1, generator=generator)
        random = torch.rand(len(knots), generator=generator)
        values = (1 - weight) * knots.clamp(max=1.0) + weight * random
        values[0] = 0.0
        right = torch.searchsorted(knots, at, right=True).clamp(1, len(knots) - 1)
        span = (knots[right] - knots[right - 1]).clamp_min(1e-4)
        mix = ((at - knots[right - 1]) / span).clamp(0.0, 1.0)
        return values[right - 1] + mix * (values[right] - values[right - 1])

    def _knots(self, image: Tensor, generator: torch.Generator) -> list[float]:
        count = int(torch.randint(2, self.knots + 1, (1,), generator=generator))
        if self.knots_at == "uniform":
            return _uniform((count,), AIR, 1.03, generator).sort().values.tolist()
        head = image[image > AIR]
        if len(head) == 0:
            head = torch.linspace(AIR, 1.0, 64)
        picks = torch.randint(len(head), (count,), generator=generator)
        inner: list[float] = []
        for knot in head[picks].sort().values.tolist():
            # Closer knots would turn noise into structure, which no acquisition does.
            if not inner or knot - inner[-1] > self.GAP:
                inner.append(knot)
        return inner

    def _texture(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Factors round 1, like `images`: smooth fields of all scales, or patches with edges."""
        count, size = len(images), images.shape[2:]
        if not self.texture:
            return torch.ones(count, 1, 1, 1)
        field = torch.zeros(images.shape)
        for cells in self.OCTAVES:
            share = torch.rand(count, 1, 1, 1, generator=generator)
            coarse = torch.randn(count, 1, cells, cells, generator=generator)
            field += share * F.interpolate(coarse, size, mode="bicubic", align_corners=True)
        field = field / field.std(dim=(2, 3), keepdim=True)
        edge = _uniform((count, 1, 1, 1), 0.1, 1.1, generator)
        patches = torch.rand(count, 1, 1, 1, generator=generator) < 0.6
        field = torch.where(patches, torch.tanh(field / edge), field)
        amplitude = self.texture * _uniform((count, 1, 1, 1), 0, 1, generator)
        return (1 + amplitude * field).clamp_min(0.05)

    def _fat(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Factors up to 1, to multiply `images` by: low where there is fat to be suppressed."""
        count = len(images)
        if not self.suppression:
            return torch.ones(count, 1, 1, 1)
        chosen = torch.rand(count, 1, 1, 1, generator=generator) < self.suppression
        left = _uniform((count, 1, 1, 1), 0.05, 0.5, generator)
        # On T1 most of the brain is below 1.3 times the middle of the head.
        edge = _uniform((count, 1, 1, 1), 1.4, 2.0, generator)
        middle = _middle_of_head(images)[:, None, None, None].nan_to_num(1.0)
        fat = torch.sigmoid((images / middle - edge) / 0.1)
        return torch.where(chosen, 1 - (1 - left) * fat, 1.0)

    def _noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """White in half of the images, else correlated between neighbours as after resampling."""
        white = torch.randn(images.shape, generator=generator)
        smooth = 2.4 * F.avg_pool2d(F.pad(white, (1, 1, 1, 1), mode="reflect"), 3, 1)
        count = len(images)
        correlated = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        level = self.noise * _uniform((count, 1, 1, 1), 0, 1, generator)
        return level * torch.where(correlated, smooth, white)

    def apply(self, images: Tensor, p: ContrastParameters) -> Tensor:
        """The images [B, 1, H, W] as another acquisition would show them, model units."""
        position = images.clamp(0.0, 1.25) * ((self.TABLE - 1) / 1.25)
        low = position.floor().long().clamp(0, self.TABLE - 2)
        flat = low.flatten(1)
        left, right = p.table.gather(1, flat), p.table.gather(1, flat + 1)
        out = torch.lerp(left, right, (position - low).flatten(1)).view_as(images)
        field = F.interpolate(p.bias, images.shape[2:], mode="bicubic", align_corners=True)
        out = _smooth_and_shift(out * p.shading * field.exp(), p.blur, p.shift)
        # What `SourceIntensity` will do to a real source: its bright end comes to about 1, and
        # without a scalp the middle of the head to 0.5.
        bright = torch.quantile(out.flatten(1)[:, ::4], 0.9975, dim=1)
        bright = bright.maximum(_middle_of_head(out).nan_to_num() / 0.5)
        bright = bright.clamp_min(0.05)
        out = out / bright[:, None, None, None] * p.gain
        # A magnitude image's noise in the air is positive; often the air has been cleared.
        air = out + p.noisy_air * 0.7 * p.noise.abs()
        return torch.where(out > AIR, out + p.noise, air).clamp(0.0, 1.25)


def _middle_of_head(images: Tensor) -> Tensor:
    """Median of what is not air in images [B, 1, H, W], by every fourth pixel; NaN for air."""
    some = images.flatten(1)[:, ::4]
    return torch.where(some > AIR, some, torch.nan).nanmedian(dim=1).values


def _smooth_and_shift(images: Tensor, blur: Tensor, shift: Tensor) -> Tensor:
    """Blur by a Gaussian of standard deviation `blur` [B] and shift by `shift` [B, 2], pixels."""
    taps = torch.arange(-3, 4, dtype=images.dtype)
    width = blur.clamp_min(0.3)[:, None]
    kernels = [torch.exp(-((taps - shift[:, i : i + 1]) ** 2) / (2 * width**2)) for i in (0, 1)]
    rows, columns = (k / k.sum(dim=1, keepdim=True) for k in kernels)
    count = len(images)
    stack = F.pad(images.transpose(0, 1), (3, 3, 3, 3), mode="replicate")
    stack = F.conv2d(stack, rows[:, None, :, None], groups=count)
    return F.conv2d(stack, columns[:, None, None, :], groups=count).transpose(0, 1)
