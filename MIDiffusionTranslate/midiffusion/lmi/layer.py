"""The one public class of the LMI layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import InvalidParameter
from . import kde
from .patches import Neighbourhood

Search = Literal["none", "shift"]


@dataclass(frozen=True)
class Responses:
    """What an LMI layer needs of its first image, computed once.

    `image` is the image itself, [B, 1, H, W]; `entropy` its patch entropies, [B, C, H, W], for the
    layer that made them.
    """

    image: Tensor
    entropy: Tensor

    def select(self, index: slice | Tensor) -> Responses:
        """The same for some of the slices."""
        return Responses(self.image[index], self.entropy[index])


class LocalMutualInformation(nn.Module):
    """Mutual information between the neighbourhoods of two images, pixel by pixel.

    LMI(u, v)(i) = max over k of I(u on N(i); v on N(i + k)), I estimated from the few samples of a
    patch (arXiv 2301.13743; our reading in docs/lmi.md). It describes shared local structure; with
    as many kernels as samples it is far from an unbiased estimate of mutual information.

    Args:
        size: side of the neighbourhood in samples, odd, at least 3.
        dilations: distances between neighbouring samples, pixels.
        bandwidths: standard deviations of the density kernel, model units.
        search: "none", or "shift": k runs over the nine shifts of v by at most one pixel.
        normalised: 2 I / (H(u) + H(v)), in [0, 1], 0 for a flat patch; otherwise I, in nats.

    Raises:
        InvalidParameter: an argument out of its range.
    """

    def __init__(
        self,
        *,
        size: int = 3,
        dilations: tuple[int, ...] = (1,),
        bandwidths: tuple[float, ...] = (0.04,),
        search: Search = "none",
        normalised: bool = True,
    ) -> None:
        super().__init__()
        if search not in ("none", "shift"):
            raise InvalidParameter(f"the LMI search must be none or shift, not {search!r}")
        if size < 3 or size % 2 == 0:
            raise InvalidParameter(f"the LMI neighbourhood size must be odd and >= 3, not {size}")
        if not dilations or any(d < 1 for d in dilations):
            raise InvalidParameter(f"LMI dilations must be whole numbers >= 1, not {dilations}")
        if not bandwidths or any(not h > 0 for h in bandwidths):
            raise InvalidParameter(f"LMI bandwidths must be above 0, not {bandwidths}")
        self.size = size
        self.dilations = tuple(int(d) for d in dilations)
        self.bandwidths = tuple(float(h) for h in bandwidths)
        self.search = search
        self.normalised = normalised

    @property
    def channels(self) -> int:
        """Number of maps: one per dilation and bandwidth."""
        return len(self.dilations) * len(self.bandwidths)

    def forward(self, u: Tensor | Responses, v: Tensor, sigma_v: Tensor | None = None) -> Tensor:
        """The maps of `u` and `v`.

        Args:
            u: first image (the source), [B, 1, H, W] model units, or its `responses`.
            v: second image, of the same shape; the one that is searched.
            sigma_v: [B], standard deviation of Gaussian noise known to be in v, model units. The
                kernel of v is widened to sqrt(h^2 + sigma_v^2), so that noise is not taken for
                structure.

        Returns:
            [B, channels, H, W], dilation by dilation, each with all bandwidths.

        Raises:
            InvalidParameter: shapes that don't fit together.
        """
        known = u.entropy if isinstance(u, Responses) else None
        image = u.image if isinstance(u, Responses) else u
        _check_shapes(image, v)
        if sigma_v is not None:
            sigma_v = torch.as_tensor(sigma_v, dtype=v.dtype, device=v.device).expand(len(v))
        first = image[:, 0]
        second = first if image is v else v[:, 0]
        scales = [
            kde.maps(
                first,
                second,
                Neighbourhood(self.size, dilation),
                bandwidth,
                sigma_v,
                self.search == "shift",
                self.normalised,
                None if known is None else known[:, channel],
            )
            for channel, (dilation, bandwidth) in enumerate(self._scales())
        ]
        return torch.stack(scales, dim=1)

    def responses(self, u: Tensor) -> Responses:
        """What depends on `u` alone, to be given in its place again and again."""
        scales = [kde.entropies(u[:, 0], Neighbourhood(self.size, d), h) for d, h in self._scales()]
        return Responses(u, torch.stack(scales, dim=1))

    def _scales(self) -> list[tuple[int, float]]:
        return [(d, h) for d in self.dilations for h in self.bandwidths]


def _check_shapes(u: Tensor, v: Tensor) -> None:
    if u.ndim != 4 or u.shape[1] != 1 or u.shape != v.shape:
        raise InvalidParameter(
            "LMI needs two images [B, 1, H, W] of one shape, "
            f"not {tuple(u.shape)} and {tuple(v.shape)}"
        )
