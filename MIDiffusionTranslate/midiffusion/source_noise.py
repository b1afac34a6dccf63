"""Noise of an MR source: how strong it is, and the source without it.

LMI maps are made of what 3 x 3 pixels hold, and noise as strong as the steps between tissues leaves
nothing of them. Training on noisy sources does not mend that; what a pixel's neighbours say of its
noise does (docs/results.md, Noise of the source).

DCT denoising: in every slice each 8 x 8 patch loses the coefficients of its discrete cosine
transform that noise alone could have (Yu and Sapiro, DCT image denoising, Image Processing On Line
1, 2011); a pixel gets the mean of the patches it lies in, less the bias that Rician noise gives a
magnitude. Where an acquisition was interpolated its noise is coarser than a pixel, so the same is
done to what remains at pixels twice as large, and so on (after Facciolo, Pierazzo and Morel,
Conservative scale recomposition for multiscale denoising, SIAM J Imaging Sci 10, 2017).
Weak noise is left alone: what models can live with is not worth a lesion's texture.

It is computed on the CPU, whatever device translates, so that all devices agree.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .head import AIR

# Model units. Noise up to the first is left alone, from the second it is taken out in full. Chosen
# on training subjects (docs/results.md); volumes as scanners give them mostly have .01 to .03.
_LEFT_ALONE, _TAKEN_OUT = 0.015, 0.03
# Of noise as strong as this the user is told: it has cost a tenth of the SSIM.
VERY_NOISY = 0.14
_PATCH, _STEP = 8, 2  # pixels: side of a patch, and from one patch to the next
_THRESHOLD = 2.7  # standard deviations of the noise: smaller coefficients are none of the image's
# Pixels are not made larger than this: they show too much anatomy for their noise to be told.
_COARSEST_MM = 2.0
_LEAST_SIDE = 16  # pixels: a smaller image is not made coarser
_ENOUGH = 100  # pixels that noise can be told by
_SLICES = 32  # that the noise of a volume is told by
# Of the differences this share is taken: edges are among the larger ones.
_QUANTILE, _NORMAL_QUANTILE = 0.25, 0.3186  # and what it is for the standard normal distribution


def without_noise(stack: np.ndarray, pixel_mm: float) -> tuple[np.ndarray, float]:
    """An MR without the noise of its magnitude, and how strong that was.

    Args:
        stack: [S, H, W], float32, model units, air at 0; the slices as they were acquired.
        pixel_mm: in-plane size of the pixels, the larger one, millimetres.

    Returns:
        Like `stack`, the same array where nothing is to be done; standard deviation of the noise,
        model units, at the pixels where it is greatest; 0 also where it can't be told.
    """
    some = [torch.from_numpy(stack[row]) for row in _spread(len(stack))]
    levels: list[float] = []
    strongest = 0.0
    while True:
        level = noise_level(some)
        strongest = max(strongest, level)
        levels.append(level * float(np.interp(level, (_LEFT_ALONE, _TAKEN_OUT), (0.0, 1.0))))
        pixel_mm *= 2
        if pixel_mm > _COARSEST_MM or min(stack.shape[1:]) < _LEAST_SIDE * 2 ** len(levels):
            break
        some = [_coarser(_without(plane, levels[-1:])) for plane in some]
    if any(levels):
        made = np.empty_like(stack)
        for plane, target in zip(stack, made, strict=True):
            target[:] = _without(torch.from_numpy(plane), levels).numpy()
        stack = made
    return stack, strongest


def noise_level(planes: list[Tensor]) -> float:
    """Standard deviation of the white noise in images [H, W], in their units; 0 where there is
    nothing to tell it by.

    By differences of differences along both axes, which take away slopes and edges along an axis,
    in the brighter half of the head, where the noise of a magnitude is as good as Gaussian; the
    median over the images.
    """
    found = []
    for image in planes:
        mean = F.avg_pool2d(image[None, None], 3, 1, 1)[0, 0]
        head = mean[mean > AIR]
        if not len(head):
            continue
        bright = mean > head.median()
        inside = bright[:-1, :-1] & bright[1:, 1:]
        across = (image[:-1, :-1] - image[1:, :-1] - image[:-1, 1:] + image[1:, 1:]) / 2
        steps = across[inside].abs()
        if len(steps) >= _ENOUGH:
            found.append(float(steps.kthvalue(1 + int(_QUANTILE * len(steps))).values))
    return float(np.median(found)) / _NORMAL_QUANTILE if found else 0.0


def _without(image: Tensor, levels: list[float]) -> Tensor:
    """[H, W] without noise of the first level at its own pixels, of the next at twice those, ..."""
    if levels[0]:
        image = _magnitude_of_signal(_shrunk(image, levels[0]), levels[0])
    if any(levels[1:]):
        coarse = _coarser(image)
        change = (_without(coarse, levels[1:]) - coarse)[None, None]
        finer = F.interpolate(change, scale_factor=2, mode="bilinear")[0, 0]
        image = image + finer[: image.shape[0], : image.shape[1]]
    return image.clamp(min=0)


def _coarser(image: Tensor) -> Tensor:
    """Of pixels twice as large, [H, W] -> [ceil(H / 2), ceil(W / 2)]."""
    return F.avg_pool2d(image[None, None], 2, ceil_mode=True)[0, 0]


def _shrunk(image: Tensor, sigma: float) -> Tensor:
    """[H, W] without the cosine coefficients of patches that are below the noise."""
    height, width = image.shape
    pads = (_PATCH, _PATCH + width % _STEP, _PATCH, _PATCH + height % _STEP)
    padded = F.pad(image[None, None], pads, mode="replicate")
    waves = _cosines()
    coefficients = waves @ F.unfold(padded, _PATCH, stride=_STEP)[0]
    kept = F.hardshrink(coefficients, _THRESHOLD * sigma)
    kept[0] = coefficients[0]  # the mean of a patch stays
    total = F.fold((waves.T @ kept)[None], padded.shape[2:], _PATCH, stride=_STEP)
    shared = (_PATCH // _STEP) ** 2  # patches that a pixel lies in
    return total[0, 0, _PATCH : _PATCH + height, _PATCH : _PATCH + width] / shared


def _magnitude_of_signal(mean: Tensor, sigma: float) -> Tensor:
    """The signal A whose noisy magnitude has this mean: exact for no signal (Rayleigh's mean), and
    well above the noise within 0.3 sigma^2 / A (Gudbjartsson and Patz, Magn Reson Med
    1995;34:910)."""
    return (mean * mean.abs() - math.pi / 2 * sigma**2).clamp(min=0).sqrt()


def _cosines() -> Tensor:
    """The orthonormal two-dimensional cosine transform of a patch as a matrix, means first."""
    place = torch.arange(_PATCH, dtype=torch.float64)
    waves = torch.cos(math.pi / _PATCH * (place + 0.5) * place[:, None]) * math.sqrt(2 / _PATCH)
    waves[0] /= math.sqrt(2)
    return torch.kron(waves, waves).float()


def _spread(count: int) -> np.ndarray:
    """Numbers of up to `_SLICES` slices out of so many."""
    return np.unique(np.linspace(0, count - 1, min(count, _SLICES)).round().astype(int))
