"""The networks of CycleGAN (Zhu et al., arXiv 1703.10593, appendix 7.2), for one image channel.

Images are in [-1, 1] here, [B, 1, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The paper's for pictures of 128 pixels; it takes nine for 256 and more.
_BLOCKS = 6


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Module:
    """Convolution of a border that mirrors the image, instance normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, padding_mode="reflect"),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class _Up(nn.Module):
    """Twice the size by a transposed convolution, instance normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1)
        self.norm = nn.InstanceNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(x)))


class ResNetGenerator(nn.Module):
    """Image to image of the other domain: down by four, residual blocks, up again.

    channels: of the first layer, 64 in the paper. Height and width are multiples of four.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(1, channels, 7),
            _convolution(channels, 2 * channels, 3, stride=2),
            _convolution(2 * channels, 4 * channels, 3, stride=2),
            *(_Residual(4 * channels) for _ in range(_BLOCKS)),
            _Up(4 * channels, 2 * channels),
            _Up(2 * channels, channels),
            nn.Conv2d(channels, 1, 7, padding=3, padding_mode="reflect"),
            nn.Tanh(),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.layers(image)
        return result


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of 70 x 70 pixels, 1 for real: [B, 1, about H / 8, about W / 8].

    channels: of the first layer, 64 in the paper. At least 32 x 32 pixels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for stride in (2, 2, 1):
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride, 1),
                nn.InstanceNorm2d(2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.layers(image)
        return result


class ImagePool:
    """The last generated images, of which a discriminator is shown old ones in half of the cases
    (Shrivastava et al., arXiv 1612.07828), so that the two networks don't chase each other."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._images: list[Tensor] = []

    def exchange(self, images: Tensor, random: torch.Generator) -> Tensor:
        """[B, ...] -> as many, each either itself or an older one that it replaces in the pool."""
        shown = []
        for image in images.detach():
            if len(self._images) < self._size:
                self._images.append(image)
                shown.append(image)
            elif torch.rand(1, generator=random) < 0.5:
                place = int(torch.randint(self._size, (1,), generator=random))
                shown.append(self._images[place])
                self._images[place] = image
            else:
                shown.append(image)
        return torch.stack(shown)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
