"""The one public class of the LMI layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import InvalidParameter
from . import fused, kde, reference, shannon
from .patches import Neighbourhood

Estimator = Literal["kde", "shannon", "reference"]
Search = Literal["none", "shift"]


@dataclass(frozen=True)
class Responses:
    """What an LMI layer needs of its first image, computed once.

    `image` is the image itself, [B, 1, H, W]; `entropy` its patch entropies, [B, C, H, W], for the
    layer that made them; of no channels where knowing them saves nothing.
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
        estimator: "kde", closed form without bins; "shannon", fixed bins as in the paper;
            "reference", parity with the published code (3 x 3, no other scale, no gradient).
        size: side of the neighbourhood in samples, odd, at least 3.
        dilations: distances between neighbouring samples, pixels.
        bandwidths: standard deviations of the density kernel, model units.
            One entry for "reference", which has 8 grey levels of 255 whatever it says.
        search: "none", or "shift": k runs over the nine shifts of v by at most one pixel
            (for "reference": over the nine windows of its mosaic).
        normalised: 2 I / (H(u) + H(v)), in [0, 1], 0 for a flat patch; otherwise I, in nats
            ("reference": bits).

    Raises:
        InvalidParameter: an argument out of its range.
    """

    def __init__(
        self,
        estimator: Estimator = "kde",
        *,
        size: int = 3,
        dilations: tuple[int, ...] = (1,),
        bandwidths: tuple[float, ...] = (0.04,),
        search: Search = "none",
        normalised: bool = True,
    ) -> None:
        super().__init__()
        if estimator not in ("kde", "shannon", "reference"):
            raise InvalidParameter(
                f"the LMI estimator must be kde, shannon or reference, not {estimator!r}"
            )
        if search not in ("none", "shift"):
            raise InvalidParameter(f"the LMI search must be none or shift, not {search!r}")
        if size < 3 or size % 2 == 0:
            raise InvalidParameter(f"the LMI neighbourhood size must be odd and >= 3, not {size}")
        if not dilations or any(d < 1 for d in dilations):
            raise InvalidParameter(f"LMI dilations must be whole numbers >= 1, not {dilations}")
        if not bandwidths or any(not h > 0 for h in bandwidths):
            raise InvalidParameter(f"LMI bandwidths must be above 0, not {bandwidths}")
        if estimator == "reference" and (size, *dilations, len(bandwidths)) != (3, 1, 1):
            raise InvalidParameter(
                "the reference LMI is defined for 3 x 3 samples at dilation 1 and its own "
                f"bandwidth alone, not size {size}, dilations {dilations}, bandwidths {bandwidths}"
            )
        self.estimator = estimator
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
                structure. "reference" has no such thing.

        Returns:
            [B, channels, H, W], dilation by dilation, each with all bandwidths.

        Raises:
            InvalidParameter: shapes that don't fit together; sigma_v with "reference".
        """
        known = u.entropy if isinstance(u, Responses) and u.entropy.shape[1] else None
        image = u.image if isinstance(u, Responses) else u
        _check_shapes(image, v)
        if sigma_v is not None:
            sigma_v = torch.as_tensor(sigma_v, dtype=v.dtype, device=v.device).expand(len(v))
        first = image[:, 0]
        second = first if image is v else v[:, 0]
        shift = self.search == "shift"
        if self.estimator == "reference":
            if sigma_v is not None:
                raise InvalidParameter("the reference LMI can't be told the noise in its image")
            with torch.no_grad():
                return reference.maps(first, second, shift, self.normalised)[:, None]
        module = kde if self.estimator == "kde" else shannon
        scales = [
            module.maps(
                first,
                second,
                Neighbourhood(self.size, dilation),
                bandwidth,
                sigma_v,
                shift,
                self.normalised,
                None if known is None else known[:, channel],
            )
            for channel, (dilation, bandwidth) in enumerate(self._scales())
        ]
        return torch.stack(scales, dim=1)

    def of_pairs(self, images: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The maps of images[i] and images[j] for every pair (i, j); what the closed form needs of
        an image is computed once for all its pairs.

        Args:
            images: [B, 1, H, W] each, of one shape, model units.
            pairs: two indices each; they may be the same.

        Returns:
            [B, channels, H, W] for each pair.

        Raises:
            InvalidParameter: shapes that don't fit together.
        """
        several = self.estimator == "kde" and self.search == "none"
        if not several or any(fused.serves(images[i], images[j]) for i, j in pairs):
            return [self(images[i], images[j]) for i, j in pairs]
        for image in images:
            _check_shapes(images[0], image)
        flat = [image[:, 0] for image in images]
        scales = [
            kde.pairs(flat, pairs, Neighbourhood(self.size, dilation), h, self.normalised)
            for dilation, h in self._scales()
        ]
        return [torch.stack(maps, dim=1) for maps in zip(*scales, strict=True)]

    def responses(self, u: Tensor) -> Responses:
        """What depends on `u` alone, to be given in its place again and again."""
        # The table of "reference" makes it cheap already.
        if self.estimator == "reference" or fused.serves(u, u):
            return Responses(u, u[:, :0])
        module = kde if self.estimator == "kde" else shannon
        scales = [
            module.entropies(u[:, 0], Neighbourhood(self.size, d), h) for d, h in self._scales()
        ]
        return Responses(u, torch.stack(scales, dim=1))

    def _scales(self) -> list[tuple[int, float]]:
        return [(d, h) for d in self.dilations for h in self.bandwidths]


def _check_shapes(u: Tensor, v: Tensor) -> None:
    if u.ndim != 4 or u.shape[1] != 1 or u.shape != v.shape:
        raise InvalidParameter(
            "LMI needs two images [B, 1, H, W] of one shape, "
            f"not {tuple(u.shape)} and {tuple(v.shape)}"
        )
