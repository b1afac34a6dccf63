"""Step `look`: how real images of the target look, in terms of the backbone's contrasts.

The backbone draws by nominal signal equations, which no scanner follows exactly. The look is the
regression of real images of the target, and of nothing else, on what the backbone draws from them:
a quadratic function of its four MR contrasts inside the brain (`training.look`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .case import Case

MR_CONTRASTS = 4
FEATURES = 1 + MR_CONTRASTS + MR_CONTRASTS * (MR_CONTRASTS + 1) // 2


def features(contrasts: Tensor) -> Tensor:
    """Constant, contrasts and their products: [..., 4, H, W] -> [..., FEATURES, H, W]."""
    one = contrasts.unbind(dim=-3)[:MR_CONTRASTS]
    products = [a * b for i, a in enumerate(one) for b in one[i:]]
    return torch.stack([torch.ones_like(one[0]), *one, *products], dim=-3)


def apply_look(weights: Tensor, outputs: Tensor, target: int) -> Tensor:
    """The target image [B, 1, H, W] from the backbone's outputs [B, 6, H, W]: the look inside the
    brain, the nominal contrast outside, blended by the share of intracranial tissue.

    weights: [FEATURES] of the brain, then one scale for what lies outside.
    """
    nominal = outputs[:, target : target + 1]
    shown = (features(outputs[:, :MR_CONTRASTS].clamp(0, 1.5)) * weights[:-1, None, None]).sum(1)
    brain = outputs[:, -1:].clamp(0, 1)
    return nominal * weights[-1] + brain * (shown[:, None] - nominal * weights[-1])


@dataclass(frozen=True)
class Look:
    """Takes the look of the model, if it has one."""

    name: ClassVar[str] = "look"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return case.model.look is not None

    def run(self, case: Case) -> dict[str, Any]:
        assert case.model.look is not None
        case.look = case.model.look.to(case.device)
        return {}
