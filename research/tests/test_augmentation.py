"""Random geometry and contrast: what each draw may do to an image, and not."""

from __future__ import annotations

import numpy as np
import torch
from midiffusion_research.training.augmentation import (
    RandomContrast,
    RandomGeometry,
)
from toys import head


def test_geometry_moves_what_it_is_told_to_move():
    images = torch.rand(1, 1, 32, 32)
    still = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(RandomGeometry.apply(images, still), images, atol=1e-4, rtol=0)
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(
        RandomGeometry.apply(images, mirror), images.flip(3), atol=1e-4, rtol=0
    )
    theta = RandomGeometry(0.0, 0.0, 0.0, 0.0, flip=False).draw(4, torch.Generator())
    torch.testing.assert_close(theta, still.expand(4, 2, 3))


def test_contrast_changes_intensities_but_not_where_air_is():
    g = torch.Generator().manual_seed(3)
    images = torch.from_numpy(np.stack([head(64, t) for t in range(64)])).float()[:, None]
    quiet = RandomContrast(blur=0.0, noise=0.0, shift=0.0)
    out = quiet.apply(images, quiet.draw(images, g))
    assert float(out[images == 0].max()) < 0.2
    assert float(out.amin()) >= 0 and float(out.amax()) <= 1.25
    # Over these draws the darker tissue must come out brighter at least once, and once darker.
    bright = torch.stack([o[i > 0.7].mean() for o, i in zip(out, images, strict=True)])
    dark = torch.stack([o[(i > 0.1) & (i < 0.3)].mean() for o, i in zip(out, images, strict=True)])
    assert (dark > bright).any() and (dark < bright).any()


def _phantoms(count: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([head(64, t) for t in range(count)])).float()[:, None]


def _still(**arguments) -> RandomContrast:
    return RandomContrast(blur=0.0, noise=0.0, shift=0.0, bias=0.0, **arguments)


def _drawn(contrast: RandomContrast, images: torch.Tensor) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    return contrast.apply(images, contrast.draw(images, g))


def test_plateaus_give_one_tissue_one_level():
    ramp = torch.linspace(0.05, 1.0, 64).expand(16, 1, 64, 64)
    levels = [
        len(torch.unique(o[0, 8:-8, 8:-8].round(decimals=2)))
        for o in _drawn(_still(plateaus=1.0), ramp)
    ]
    smooth = [len(torch.unique(o[0, 8:-8, 8:-8].round(decimals=2))) for o in _drawn(_still(), ramp)]
    # Up to five levels, and what the narrowest blur leaves between two of them.
    assert np.median(levels) < 0.5 * np.median(smooth)


def test_texture_is_structure_where_the_target_has_none():
    images = torch.full((16, 1, 64, 64), 0.5)
    assert float(_drawn(_still(), images).std(dim=(2, 3)).max()) < 1e-4
    shown = _drawn(_still(texture=0.5), images).std(dim=(2, 3))
    assert float(shown.median()) > 0.03


def test_suppression_takes_the_fat_and_leaves_the_brain(monkeypatch):
    identity = torch.linspace(0, 1.25, RandomContrast.TABLE)
    monkeypatch.setattr(RandomContrast, "_table", lambda *_: identity)
    images = torch.zeros(64, 1, 64, 64)
    images[..., 4:-4, 4:-4] = 1.0  # fat, round
    images[..., 8:-8, 8:-8] = 0.4  # grey matter
    images[..., 20:-20, 20:-20] = 0.5  # white matter

    def shown(share: float) -> torch.Tensor:
        """Fat, grey and white matter in every pseudo-source, [3, 64]."""
        out = _drawn(_still(suppression=share), images)
        return torch.stack([out[:, 0, 32, column] for column in (5, 12, 32)])

    fat, grey, white = shown(0.0)
    assert float((fat - white).min()) > 0.3
    fat, grey, white = shown(1.0)
    assert float((fat / white).max()) < 1.2
    assert float((fat / white).min()) < 0.2
    assert float((white - grey).min()) > 0
    fat, _, white = shown(0.25)
    assert 4 <= int((fat < 1.2 * white).sum()) <= 30


def test_same_seed_same_augmentation():
    images = torch.rand(2, 1, 16, 16)
    draws = []
    for _ in range(2):
        g = torch.Generator().manual_seed(5)
        contrast = RandomContrast()
        draws.append(contrast.apply(images, contrast.draw(images, g)))
    torch.testing.assert_close(draws[0], draws[1], rtol=0, atol=0)
