"""What the denoiser is told about the source: LMI maps, never its intensities.

Two kinds of map (docs/deviations.md says why both):

- self maps LMI(source, source): where structure lies and how strong it is, the same to first order
  in every contrast of one anatomy. Computed once per source.
- cross maps LMI(source, x): how well the state's structure agrees with the source's. The state is
  noisy, so its kernel is widened by the known sigma; far above `cross_sigma_max` no 3 x 3 patch
  carries information and the maps are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..lmi import LocalMutualInformation
from ..lmi.layer import Responses


@dataclass(frozen=True)
class LMISettings:
    """Which LMI maps condition a model; what a model card stores under `lmi`.

    Args:
        size: side of the square neighbourhood, in samples.
        dilations: distances between the samples of a neighbourhood, pixels.
        bandwidths: standard deviations of the density kernel, model units.
        cross_dilations, cross_bandwidths: the same for the cross maps; empty means no cross maps.
        cross_sigma_max: cross maps are zero above this noise level, model units.
        maps: whether the condition has LMI maps; source: whether it has the source image.
    """

    size: int = 3
    dilations: tuple[int, ...] = (1, 2, 4)
    bandwidths: tuple[float, ...] = (0.04, 0.12)
    cross_dilations: tuple[int, ...] = (2,)
    cross_bandwidths: tuple[float, ...] = (0.12,)
    cross_sigma_max: float = 1.0
    maps: bool = True
    source: bool = False

    def __post_init__(self) -> None:
        for name in ("dilations", "bandwidths", "cross_dilations", "cross_bandwidths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def self_channels(self) -> int:
        """Number of self maps."""
        return len(self.dilations) * len(self.bandwidths)

    @property
    def cross_channels(self) -> int:
        """Number of cross maps."""
        return len(self.cross_dilations) * len(self.cross_bandwidths)

    @property
    def fixed_channels(self) -> int:
        """Number of channels that depend on the source alone: self maps, then the source."""
        return self.maps * self.self_channels + self.source

    @property
    def channels(self) -> int:
        """Number of conditioning channels the denoiser sees."""
        return self.fixed_channels + self.maps * self.cross_channels

    def self_lmi(self) -> LocalMutualInformation:
        """The LMI layer of the self maps."""
        return self._layer(self.dilations, self.bandwidths)

    def cross_lmi(self) -> LocalMutualInformation:
        """The LMI layer of the cross maps."""
        return self._layer(self.cross_dilations, self.cross_bandwidths)

    def _layer(
        self, dilations: tuple[int, ...], bandwidths: tuple[float, ...]
    ) -> LocalMutualInformation:
        return LocalMutualInformation(
            size=self.size,
            dilations=dilations,
            bandwidths=bandwidths,
        )


class LMICondition:
    """The source of a stack of slices, with everything that depends on it alone computed once.

    Args:
        source: [B, 1, H, W], model units.
        settings: which maps.
        self_maps, responses: self maps [B, settings.self_channels, H, W] and the source's side of
            the cross maps; computed from `source` unless given.
    """

    def __init__(
        self,
        source: Tensor,
        settings: LMISettings,
        self_maps: Tensor | None = None,
        responses: Responses | None = None,
    ) -> None:
        self.source = source
        self.settings = settings
        with torch.no_grad():
            self.self_maps = settings.self_lmi()(source, source) if self_maps is None else self_maps
        self._responses = responses

    @property
    def fixed(self) -> Tensor:
        """What depends on the source alone: [B, settings.fixed_channels, H, W]."""
        parts = [self.self_maps] if self.settings.maps else []
        return torch.cat(parts + ([self.source] if self.settings.source else []), dim=1)

    def channels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Conditioning channels for the state `x` at noise level `sigma`.

        Args:
            x: state, [B, 1, H, W], model units.
            sigma: a number or [B], model units.

        Returns:
            [B, settings.channels, H, W] in [0, 1]; no gradient flows through them.
        """
        if self.settings.maps and self.settings.cross_channels:
            return torch.cat((self.fixed, self._cross(x, sigma)), dim=1)
        return self.fixed

    @torch.no_grad()
    def _cross(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        highest = self.settings.cross_sigma_max
        if not isinstance(sigma, Tensor) and sigma > highest:
            return x.new_zeros(x.shape[0], self.settings.cross_channels, *x.shape[2:])
        # A number is made there: copying it would make a GPU wait for the host.
        levels = sigma if isinstance(sigma, Tensor) else x.new_full((), sigma)
        levels = levels.to(x.dtype).expand(x.shape[0])
        # Not computed for some images only: choosing them would make a GPU wait for the host.
        lmi = self.settings.cross_lmi()
        if self._responses is None:
            self._responses = lmi.responses(self.source)
        maps = lmi(self._responses, x, levels)
        if not isinstance(sigma, Tensor):
            return maps
        return maps * (levels <= highest).to(maps)[:, None, None, None]

    def select(self, index: slice) -> LMICondition:
        """The condition of some of the slices; nothing is computed again."""
        known = None if self._responses is None else self._responses.select(index)
        return LMICondition(self.source[index], self.settings, self.self_maps[index], known)
