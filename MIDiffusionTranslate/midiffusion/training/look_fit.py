"""The look of a target: regression of its real images on what the backbone draws from them.

Seconds of work, target images alone, and no pair: see `pipeline.look` for its use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.backbone import CONTRASTS, Backbone
from ..diffusion.conditioning import LMICondition, LMISettings
from ..errors import InvalidData
from ..pipeline.look import FEATURES, MR_CONTRASTS, features

_LEAST_PIXELS = 2000  # of brain, over all images
_RIDGE = 1e-3  # of the mean squared feature
_AIR = 0.03  # model units


@torch.no_grad()
def draw(backbone: Backbone, images: Tensor, lmi: LMISettings) -> Tensor:
    """The backbone's outputs for images [N, 1, H, W]: [N, 6, H, W]."""
    parts = []
    for part in images.split(16):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(backbone(LMICondition(part, lmi).fixed).float())
    return torch.cat(parts)


def fit_look(images: Tensor, outputs: Tensor, contrast: str) -> Tensor:
    """Weights of the look.

    Args:
        images: real images of the target, [N, 1, H, W], model units.
        outputs: what the backbone draws from them, [N, 6, H, W].
        contrast: the nominal contrast that is shown outside the brain.

    Returns:
        [FEATURES + 1]: a quadratic function of the MR contrasts inside the brain, then the scale of
        the nominal contrast outside.

    Raises:
        InvalidData: the images show too little brain.
    """
    brain = outputs[:, -1] > 0.5
    if int(brain.sum()) < _LEAST_PIXELS:
        raise InvalidData("The images show too little brain to learn the look of the target.")
    shown = features(outputs[:, :MR_CONTRASTS].clamp(0, 1.5)).movedim(1, -1)[brain].double()
    real = images[:, 0][brain].double()
    gram = shown.T @ shown / len(shown)
    ridge = _RIDGE * torch.eye(FEATURES).double() * gram.diagonal()
    weights = torch.linalg.solve(gram + ridge, shown.T @ real / len(shown))
    outside = (outputs[:, -1] < 0.1) & (images[:, 0] > _AIR)
    nominal = outputs[:, CONTRASTS.index(contrast)][outside]
    scale = (nominal * images[:, 0][outside]).sum() / nominal.square().sum().clamp_min(1e-6)
    return torch.cat((weights.float(), scale[None]))


def nearest_contrast(images: Tensor, outputs: Tensor) -> str:
    """The MR contrast that correlates best with the images over the whole head."""
    head = images[:, 0] > _AIR
    values = torch.stack([images[:, 0][head], *(outputs[:, i][head] for i in range(MR_CONTRASTS))])
    return CONTRASTS[int(torch.corrcoef(values)[0, 1:].argmax())]
