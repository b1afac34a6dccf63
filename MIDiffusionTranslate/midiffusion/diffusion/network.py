"""The U-Net: `forward(x, c_noise, cond)`. It knows nothing of SDEs, noise schedules or LMI.

Three choices matter on small hardware and for slices of any size:

- pixels are folded into channels first (`patch` x `patch` blocks, undone at the end), so the widest
  maps are a quarter of the image and convolutions, not memory, set the speed;
- features are normalised over channels at each pixel, never over the image, so what the network
  says about a pixel does not depend on how much air surrounds the head;
- there is no attention: the lowest level sees the whole head, and cost grows with area only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network; what a model card stores under `network`.

    Args:
        cond_channels: channels of `cond`.
        channels: width of each resolution level, finest first.
        blocks: residual blocks per level on the way down (and on the way up).
        patch: side of the pixel blocks folded into channels.
        embedding: width of the noise-level embedding.
        outputs: images that the network returns.
    """

    cond_channels: int
    channels: tuple[int, ...] = (48, 96, 144, 192)
    blocks: int = 1
    patch: int = 2
    embedding: int = 128
    outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this many pixels."""
        return self.patch * 2 ** (len(self.channels) - 1)


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with a learned gain and no offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last memory this permutation is free and the fused kernel runs.
        rows = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight)
        return rows.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Pre-activation residual block; the noise level scales and shifts its second half."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = PixelNorm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(embedding, 2 * outputs)
        self.norm2 = PixelNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        # Each block starts as the identity, which keeps deep stacks trainable from step one.
        _zero(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.affine(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
        return self.skip(x) + h


class UNet(nn.Module):
    """Convolutional U-Net over one image channel and `config.cond_channels` conditioning maps."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, width = config.channels, config.embedding
        folded = (1 + config.cond_channels) * config.patch**2
        self.embed = nn.Sequential(
            nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.inlet = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        current, skips = widths[0], []
        for target in widths:
            level = nn.ModuleList()
            for _ in range(config.blocks):
                level.append(ResidualBlock(current, target, width))
                current = target
                skips.append(current)
            self.down.append(level)
        self.middle = ResidualBlock(current, current, width)
        self.up = nn.ModuleList()
        for target in reversed(widths):
            level = nn.ModuleList()
            for _ in range(config.blocks):
                level.append(ResidualBlock(current + skips.pop(), target, width))
                current = target
            self.up.append(level)
        self.norm = PixelNorm(current)
        self.outlet = nn.Conv2d(current, config.outputs * config.patch**2, 3, padding=1)
        _zero(self.outlet)
        # Convolutions of few channels are several times faster on a CPU in this layout.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, c_noise: Tensor, cond: Tensor) -> Tensor:
        """Map an image, its noise label and its conditioning maps to an image.

        Args:
            x: [B, 1, H, W]; H and W multiples of `config.multiple`.
            c_noise: [B], the noise label (EDM uses ln(sigma) / 4).
            cond: [B, config.cond_channels, H, W].

        Returns:
            [B, config.outputs, H, W].
        """
        emb = self.embed(_fourier(c_noise, 64))
        h = F.pixel_unshuffle(torch.cat((x, cond), dim=1), self.config.patch)
        h = self.inlet(h.contiguous(memory_format=torch.channels_last))
        skips = []
        for index, level in enumerate(self.down):
            if index:
                h = F.avg_pool2d(h, 2)
            for block in level:  # type: ignore[attr-defined]
                h = block(h, emb)
                skips.append(h)
        h = self.middle(h, emb)
        for index, level in enumerate(self.up):
            if index:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
            for block in level:  # type: ignore[attr-defined]
                h = block(torch.cat((h, skips.pop()), dim=1), emb)
        return F.pixel_shuffle(self.outlet(F.silu(self.norm(h))), self.config.patch)


def _zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _fourier(values: Tensor, width: int) -> Tensor:
    """Sines and cosines of `values` [B] at geometric frequencies -> [B, width]."""
    frequencies = torch.exp(
        torch.linspace(0.0, math.log(256.0), width // 2, device=values.device, dtype=values.dtype)
    )
    angles = values[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=1)
