"""The networks of StyleGAN2 (Karras et al., arXiv 1912.04958), for one image channel.

Configuration F: weight demodulation, skip generator, residual discriminator. Images are about
[-1, 1], [B, 1, R, R] with R a power of two; latents z and w are [B, width].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAPPING_LAYERS = 8
_MAPPING_RATE = 0.01  # of the learning rate, for the mapping network alone
_LARGEST_GROUP = 4  # of images that the minibatch standard deviation is taken over


def channels_at(resolution: int, width: float) -> int:
    """Channels of the layers at a resolution: the paper's 512, fewer above 64, times `width`."""
    return max(4, round(width * min(512, 32768 // resolution)))


class EqualLinear(nn.Module):
    """Linear layer whose weights have unit variance and are scaled when used (arXiv 1710.10196),
    so that all layers learn at one rate. rate: further factor on it. bias: where that starts."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self._scale = rate / math.sqrt(inputs)
        self._rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self._scale, self.bias * self._rate)


class EqualConvolution(nn.Module):
    """Convolution with the weights of `EqualLinear`; keeps the size, or halves it (down)."""

    def __init__(
        self, inputs: int, outputs: int, side: int, bias: bool = True, down: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self._scale = 1 / math.sqrt(inputs * side**2)
        self._down = down

    def forward(self, x: Tensor) -> Tensor:
        side = self.weight.shape[-1]
        weight = self.weight * self._scale
        if self._down:
            return F.conv2d(smooth(x, side), weight, self.bias, stride=2)
        return F.conv2d(x, weight, self.bias, padding=side // 2)


class ModulatedConvolution(nn.Module):
    """Section 2.2: w scales the input channels of the weights; demodulation then brings every
    output channel back to unit variance, in place of a normalisation of the image itself."""

    def __init__(
        self, inputs: int, outputs: int, side: int, width: int, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.style = EqualLinear(width, inputs, bias=1.0)
        self._scale = 1 / math.sqrt(inputs * side**2)
        self._demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        # [B, outputs, inputs, side, side]: every image has weights of its own.
        weight = self.weight * self._scale * self.style(w)[:, None, :, None, None]
        if self._demodulate:
            weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        side = weight.shape[-1]
        groups = x.reshape(1, -1, height, width)
        y = F.conv2d(groups, weight.flatten(0, 1), padding=side // 2, groups=batch)
        return y.view(batch, -1, height, width)


def smooth(x: Tensor, side: int) -> Tensor:
    """Low-pass filter [1, 3, 3, 1] in both axes (arXiv 1904.11486), with the border that a
    convolution of `side` pixels and stride two needs to give [.., H / 2, W / 2] after it."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    border = (side + 1) // 2
    return F.conv2d(F.pad(x, [border] * 4, mode="replicate"), kernel, groups=x.shape[1])


def twice_as_large(x: Tensor) -> Tensor:
    """[.., 2 H, 2 W]: zeros between the pixels, then [1, 3, 3, 1], which is linear interpolation.

    Before a convolution it gives what the paper's order (convolution, then filter) gives.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class MappingNetwork(nn.Module):
    """z -> w: z normalised, eight layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EqualLinear(width, width, _MAPPING_RATE) for _ in range(_MAPPING_LAYERS)
        )

    def forward(self, z: Tensor) -> Tensor:
        z = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            z = _activate(layer(z))
        return z


class _StyledLayer(nn.Module):
    """Modulated 3 x 3 convolution, noise of a learnt strength, bias, activation."""

    def __init__(self, inputs: int, outputs: int, width: int, up: bool) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(inputs, outputs, 3, width)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._up = up

    def forward(self, x: Tensor, w: Tensor, noisy: bool) -> Tensor:
        x = self.convolution(twice_as_large(x) if self._up else x, w)
        if noisy:
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
            x = x + self.noise_strength * noise
        return _activate(x + self.bias[:, None, None])


class SynthesisNetwork(nn.Module):
    """Skip generator: from a learnt 4 x 4 start up to `size`, an image at every resolution, all of
    them enlarged and summed.

    layers: how many w an image takes (W+), one for each layer.
    """

    def __init__(self, size: int, width: float) -> None:
        super().__init__()
        latent = channels_at(4, width)
        self.start = nn.Parameter(torch.randn(1, latent, 4, 4))
        self.styled = nn.ModuleList([_StyledLayer(latent, latent, latent, up=False)])
        self.to_image = nn.ModuleList([ModulatedConvolution(latent, 1, 1, latent, False)])
        resolution, before = 8, latent
        while resolution <= size:
            channels = channels_at(resolution, width)
            self.styled.append(_StyledLayer(before, channels, latent, up=True))
            self.styled.append(_StyledLayer(channels, channels, latent, up=False))
            self.to_image.append(ModulatedConvolution(channels, 1, 1, latent, False))
            resolution, before = 2 * resolution, channels
        self.offset = nn.Parameter(torch.zeros(()))
        self.layers = len(self.styled) + 1

    def forward(self, w: Tensor, noisy: bool = True) -> Tensor:
        """w: [B, layers, width]. noisy: with the noise inputs, or without."""
        x = self.styled[0](self.start.expand(len(w), -1, -1, -1), w[:, 0], noisy)
        image = self.to_image[0](x, w[:, 1])
        for block in range(1, len(self.to_image)):
            at = 2 * block - 1
            x = self.styled[at](x, w[:, at], noisy)
            x = self.styled[at + 1](x, w[:, at + 1], noisy)
            # As published, an image layer shares its w with the next block's first layer.
            image = twice_as_large(image) + self.to_image[block](x, w[:, at + 2])
        return image + self.offset


class Discriminator(nn.Module):
    """Residual discriminator with the standard deviation over the minibatch as a last map; [B]."""

    def __init__(self, size: int, width: float) -> None:
        super().__init__()
        channels = channels_at(size, width)
        self.inlet = EqualConvolution(1, channels, 1)
        self.blocks = nn.ModuleList()
        resolution = size
        while resolution > 4:
            resolution //= 2
            target = channels_at(resolution, width)
            self.blocks.append(_DiscriminatorBlock(channels, target))
            channels = target
        self.last = EqualConvolution(channels + 1, channels, 3)
        self.hidden = EqualLinear(16 * channels, channels)
        self.score = EqualLinear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = _activate(self.inlet(images))
        for block in self.blocks:
            x = block(x)
        x = _activate(self.last(torch.cat((x, minibatch_deviation(x)), dim=1)))
        score: Tensor = self.score(_activate(self.hidden(x.flatten(1))))[:, 0]
        return score


class _DiscriminatorBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConvolution(inputs, inputs, 3)
        self.second = EqualConvolution(inputs, outputs, 3, down=True)
        self.skip = EqualConvolution(inputs, outputs, 1, bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        y = _activate(self.second(_activate(self.first(x))))
        return (y + self.skip(x)) / math.sqrt(2)


def minibatch_deviation(x: Tensor) -> Tensor:
    """[B, 1, H, W]: standard deviation over a group of images, meant over features and pixels
    (arXiv 1710.10196, section 3); a generator that repeats itself is found out by it."""
    batch = len(x)
    group = next(g for g in range(min(_LARGEST_GROUP, batch), 0, -1) if batch % g == 0)
    grouped = x.view(group, -1, *x.shape[1:])
    deviation = (grouped.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])


def _activate(x: Tensor) -> Tensor:
    """Leaky ReLU, times the root of two to keep the variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)
