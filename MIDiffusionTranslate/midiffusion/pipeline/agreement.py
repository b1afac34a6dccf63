"""How much local structure a result shares with its source: a check of the result by itself.

The map is LMI(source, result) between its two natural ends. With I(a, b) the local mutual
information of two images, summed over the neighbourhoods and kernels of the model's card and
averaged over 5 x 5 pixels,

    agreement = (I(s, r) - chance) / (sqrt(I(s, s) I(r, r)) - chance),  limited to [0, 1],

where chance is the mean of I(s, r moved), r moved along two diagonals so far that its patches no
longer overlap with their counterparts. LMI as such has no fixed ends: a patch has as few samples as
its kernel has widths, so that noise scores well above 0 and an image against itself well below 1.

What it can tell: where edges and texture of the source are missing, moved, or replaced by others of
the model's invention; noise. Which grey value became which does not matter: an inverted source has
agreement 1.

What it can't: whether the result is *right*. A real image of the target modality agrees with the
source only as far as both show the same structure (about 0.35 for a T1 and a FLAIR of one head),
and a copy of the source, which is no translation at all, agrees fully. It is 0 where neither has
structure, and near the border of the slices it knows little. Heads are symmetric, so left and right
exchanged is not zero either.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.conditioning import LMISettings
from ..lmi import LocalMutualInformation
from ..runtime.batching import SliceBatches

_RADIUS = 2  # of the neighbourhood that is averaged over, pixels
_LEAST = 0.01  # nats for each neighbourhood and kernel: less is no structure


def agreement_slices(
    source: Tensor,
    result: Tensor,
    settings: LMISettings,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """The map, [S, 1, H, W] in [0, 1], for slices of the same shape in model units.

    settings: of the card; its size, dilations and bandwidths are used, always with the closed form
    and without search. on_batch is called with the number of slices done; what it raises ends the
    computation. Raises OutOfMemory.
    """
    lmi = LocalMutualInformation(
        "kde",
        size=settings.size,
        dilations=settings.dilations,
        bandwidths=settings.bandwidths,
        normalised=False,
    )
    away = 2 * max(settings.dilations) * (settings.size // 2)

    def one_batch(part: slice) -> Tensor:
        s, r = source[part], result[part]
        moved = [torch.roll(r, (step, step), (2, 3)) for step in (away, -away)]
        maps = lmi.of_pairs((s, r, *moved), ((0, 0), (1, 1), (0, 1), (0, 2), (0, 3)))
        of_s, of_r, both, *by_chance = (one.sum(dim=1, keepdim=True) for one in maps)
        chance = torch.stack(by_chance).mean(dim=0)
        ceiling = (of_s * of_r).clamp(min=0).sqrt()
        shared, most = _around(both - chance), _around(ceiling - chance)
        return (shared / most.clamp(min=_LEAST * lmi.channels)).clamp(0, 1)

    return SliceBatches(source.device).map(len(source), one_batch, on_batch)


def _around(x: Tensor) -> Tensor:
    """Mean over the neighbourhood of every pixel, [S, 1, H, W]."""
    side = 2 * _RADIUS + 1
    return F.avg_pool2d(F.pad(x, (_RADIUS,) * 4, mode="replicate"), side, stride=1)
