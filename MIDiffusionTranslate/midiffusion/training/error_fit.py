"""Weights of the expected error, from real images of the target with self-made sources."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from ..diffusion.backbone import CONTRASTS, Backbone
from ..diffusion.conditioning import LMISettings
from ..pipeline.error_map import WINDOW_MM, terms
from ..pipeline.look import apply_look
from ..pipeline.views import Views
from .look_fit import draw
from .self_made_sources import ct_source, self_made_sources
from .synthetic_heads import SyntheticHeads

_AIR = 0.03  # model units


def fit_error(
    backbone: Backbone,
    images: Tensor,
    contrast: str,
    look: Tensor | None,
    lmi: LMISettings,
    pixel_mm: float,
    seed: int = 0,
) -> Tensor:
    """Non-negative least squares of the absolute error on the terms of `pipeline.error_map`.

    Args:
        backbone: draws sources and results.
        images: real images of the target, [N, 1, H, W], model units.
        contrast, look: of the target.
        lmi: condition of the backbone.
        pixel_mm: of the images.
        seed: of the self-made sources.

    Returns:
        Weights [3] in the order of `TERMS`.
    """
    g = torch.Generator().manual_seed(seed)
    shown = ct_source(images) if contrast == "ct" else images
    source = self_made_sources(shown, draw(backbone, shown, lmi), SyntheticHeads(), g)
    index = CONTRASTS.index(contrast)

    def result(view: Tensor) -> Tensor:
        outputs = draw(backbone, view, lmi)
        image = outputs[:, index : index + 1]
        return (image if look is None else apply_look(look, outputs, index)).clamp(0, 1.5)

    views = Views()
    answers = torch.stack(
        [
            result(source),
            result(source**views.brighter),
            result(source**views.darker),
            result(source.flip(3)).flip(3),
        ]
    )[:, :, 0].numpy()
    mean, spread = answers.mean(axis=0), answers.std(axis=0, ddof=1)
    real = images[:, 0].numpy()
    if contrast != "ct":
        power = np.maximum((mean * mean).sum(axis=(1, 2)), 1e-3)
        real = real / np.clip((real * mean).sum(axis=(1, 2)) / power, 0.5, 2)[:, None, None]
    sigmas = (0.0, WINDOW_MM / pixel_mm, WINDOW_MM / pixel_mm)
    head = (real > _AIR) & (mean > 0)
    columns = np.stack([term[head] for term in terms(mean, spread, sigmas)], axis=1)
    weights, _ = nnls(columns.astype(np.float64), np.abs(real - mean)[head].astype(np.float64))
    return torch.from_numpy(weights).float()
