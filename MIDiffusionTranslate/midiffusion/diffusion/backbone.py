"""The backbone: five contrasts of one anatomy from the condition of a source, in one pass.

B(c) is trained by plain regression, so it estimates the mean of each target given the source. It
is the denoiser at infinite noise, D(x, sigma -> inf, c), of all five targets at once: the diffusion
of a target runs on what remains, x0 - B (see `denoiser`).
"""

from __future__ import annotations

from torch import Tensor, nn

from .network import UNet, UNetConfig

CONTRASTS = ("t1", "t2", "pd", "flair", "ct")
"""The same as `models.names.CONTRASTS`, which needs no torch."""
OUTPUTS = (*CONTRASTS, "brain")


class Backbone(nn.Module):
    """U-Net from conditioning maps to one image for each of `OUTPUTS`.

    Args:
        config: shape of the network; `outputs` is 6.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.network = UNet(config)

    def forward(self, condition: Tensor) -> Tensor:
        """condition [B, C, H, W] -> [B, 6, H, W], not clamped: contrasts in model units, and
        the share of intracranial tissue."""
        count, _, height, width = condition.shape
        state = condition.new_zeros(count, 1, height, width)
        return self.network(state, condition.new_zeros(count), condition)
