"""The Inception network of 2015 by whose features FID is defined, for weights that the user has.

Szegedy et al., arXiv 1512.00567, as in the graph that the authors of FID used (Heusel et al., arXiv
1706.08500): 1008 classes, average pools that leave out the padding, and a maximum in place of the
average in the last block. Parameters carry the names of the well-known PyTorch port of that graph,
`pt_inception-2015-12-05-6726825d.pth`, so that this file is read as it is.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from midiffusion.errors import InvalidParameter, UnreadableFile
from torch import Tensor, nn

# Hub files carry the beginning of their SHA-256 in their names; this is the port's.
SHA256_BEGIN = "6726825d"
SIDE = 299
FEATURES = 2048

# Name of a convolution within its block, channels out, kernel (rows, columns), stride.
_Step = tuple[str, int, tuple[int, int], int]
_Path = Sequence[_Step]


class _Convolution(nn.Module):
    def __init__(
        self, channels: int, out: int, kernel: tuple[int, int], stride: int = 1, pad: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if pad and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """Chains of convolutions side by side, then a pool ("mean", "max", or "half" for a maximum of
    stride 2), with a 1 x 1 convolution behind it if `pooled` is not 0; the results one after the
    other. Chains may share their first steps."""

    def __init__(self, channels: int, paths: Sequence[_Path], pool: str, pooled: int) -> None:
        super().__init__()
        self._paths = [[name for name, *_ in path] for path in paths]
        self._pool = pool
        self.channels = pooled if pooled else channels
        for path in paths:
            width = channels
            for name, out, kernel, stride in path:
                if not hasattr(self, name):
                    setattr(self, name, _Convolution(width, out, kernel, stride))
                width = out
            self.channels += width
        self.branch_pool = _Convolution(channels, pooled, (1, 1)) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for path in self._paths:
            result = x
            for name in path:
                result = getattr(self, name)(result)
            results.append(result)
        if self._pool == "mean":
            pool = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        else:
            pool = F.max_pool2d(x, 3, 2) if self._pool == "half" else F.max_pool2d(x, 3, 1, 1)
        return torch.cat([*results, self.branch_pool(pool)], dim=1)


def _block_a(channels: int, pooled: int) -> _Mixed:
    paths: list[_Path] = [
        [("branch1x1", 64, (1, 1), 1)],
        [("branch5x5_1", 48, (1, 1), 1), ("branch5x5_2", 64, (5, 5), 1)],
        [
            ("branch3x3dbl_1", 64, (1, 1), 1),
            ("branch3x3dbl_2", 96, (3, 3), 1),
            ("branch3x3dbl_3", 96, (3, 3), 1),
        ],
    ]
    return _Mixed(channels, paths, "mean", pooled)


def _block_b(channels: int) -> _Mixed:
    paths: list[_Path] = [
        [("branch3x3", 384, (3, 3), 2)],
        [
            ("branch3x3dbl_1", 64, (1, 1), 1),
            ("branch3x3dbl_2", 96, (3, 3), 1),
            ("branch3x3dbl_3", 96, (3, 3), 2),
        ],
    ]
    return _Mixed(channels, paths, "half", 0)


def _block_c(channels: int, inner: int) -> _Mixed:
    paths: list[_Path] = [
        [("branch1x1", 192, (1, 1), 1)],
        [
            ("branch7x7_1", inner, (1, 1), 1),
            ("branch7x7_2", inner, (1, 7), 1),
            ("branch7x7_3", 192, (7, 1), 1),
        ],
        [
            ("branch7x7dbl_1", inner, (1, 1), 1),
            ("branch7x7dbl_2", inner, (7, 1), 1),
            ("branch7x7dbl_3", inner, (1, 7), 1),
            ("branch7x7dbl_4", inner, (7, 1), 1),
            ("branch7x7dbl_5", 192, (1, 7), 1),
        ],
    ]
    return _Mixed(channels, paths, "mean", 192)


def _block_d(channels: int) -> _Mixed:
    paths: list[_Path] = [
        [("branch3x3_1", 192, (1, 1), 1), ("branch3x3_2", 320, (3, 3), 2)],
        [
            ("branch7x7x3_1", 192, (1, 1), 1),
            ("branch7x7x3_2", 192, (1, 7), 1),
            ("branch7x7x3_3", 192, (7, 1), 1),
            ("branch7x7x3_4", 192, (3, 3), 2),
        ],
    ]
    return _Mixed(channels, paths, "half", 0)


def _block_e(channels: int, pool: str) -> _Mixed:
    once: _Step = ("branch3x3_1", 384, (1, 1), 1)
    twice: list[_Step] = [("branch3x3dbl_1", 448, (1, 1), 1), ("branch3x3dbl_2", 384, (3, 3), 1)]
    paths: list[_Path] = [
        [("branch1x1", 320, (1, 1), 1)],
        [once, ("branch3x3_2a", 384, (1, 3), 1)],
        [once, ("branch3x3_2b", 384, (3, 1), 1)],
        [*twice, ("branch3x3dbl_3a", 384, (1, 3), 1)],
        [*twice, ("branch3x3dbl_3b", 384, (3, 1), 1)],
    ]
    return _Mixed(channels, paths, pool, 192)


class Inception(nn.Module):
    """[N, 3, 299, 299] in [-1, 1] to the [N, 2048] features of the last average pool."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, (3, 3), 2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, (3, 3), pad=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = _Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Convolution(80, 192, (3, 3), pad=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, "mean")
        self.Mixed_7c = _block_e(2048, "max")
        self.fc = nn.Linear(FEATURES, 1008)  # not used, but part of the file

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b):
            x = block(x)
        for block in (self.Mixed_6c, self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b):
            x = block(x)
        return self.Mixed_7c(x).mean(dim=(2, 3))


def load_inception(path: Path) -> Inception:
    """The network with the weights of this file, ready to be used.

    The file is read by PyTorch's loader for tensors alone. Raises UnreadableFile for a file that
    can't be read and InvalidParameter for one that is not the port of the 2015 weights (by its
    SHA-256): a distance by any other weights is not FID.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnreadableFile(f"{path} can't be read: {error.strerror or error}.") from error
    if not digest.startswith(SHA256_BEGIN):
        raise InvalidParameter(
            f"{path} does not hold the Inception weights of 2015 (their SHA-256 begins with "
            f"{SHA256_BEGIN}); FID is defined by no others: give "
            "pt_inception-2015-12-05-6726825d.pth, or leave --inception out."
        )
    network = Inception()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise UnreadableFile(f"{path} can't be read as weights: {error}") from error
    return network.eval()
