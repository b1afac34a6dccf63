"""The figures of the fidelity protocol.

Every function takes stacks of slices, floating point arrays ``[..., H, W]`` in model units (nominal
range 0 to 1), on an intensity scale that was fixed beforehand: nothing here rescales an image.
Similarities are computed slice by slice over the last two axes.
"""

from __future__ import annotations

import numpy as np
from midiffusion.metrics import Array as Array
from midiffusion.metrics import Mask as Mask
from midiffusion.metrics import _difference as _difference
from midiffusion.metrics import entropies as entropies
from midiffusion.metrics import mean_absolute_error as mean_absolute_error
from midiffusion.metrics import mean_squared_error as mean_squared_error
from midiffusion.metrics import mutual_information as mutual_information
from midiffusion.metrics import psnr as psnr
from midiffusion.metrics import ssim_map as ssim_map
from numpy.typing import NDArray
from scipy import ndimage


def interior(values: Array, window: int = 7) -> Array:
    """`values` [..., H, W] without the border in which an SSIM window leaves the image."""
    half = window // 2
    return values[..., half:-half, half:-half]


def best_gain(output: NDArray[np.floating], target: NDArray[np.floating]) -> float:
    """The factor that brings `output` nearest to `target` in least squares (1 for a zero output).

    For figures "after one gain": the brightness of a magnetic resonance image is arbitrary.
    """
    output = np.asarray(output, dtype=np.float64)
    power = float(np.sum(output * output))
    return float(np.sum(output * np.asarray(target, dtype=np.float64))) / power if power else 1.0


def normalised_mutual_information(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> float:
    """Studholme's normalised mutual information (H1 + H2) / H12, in [1, 2]; 1 if both are constant.

    Studholme, Hill, Hawkes, Pattern Recognition 1999;32:71.
    """
    h1, h2, h12 = entropies(first, second)
    return (h1 + h2) / h12 if h12 > 0 else 1.0


def gradient_magnitude(images: NDArray[np.floating]) -> Array:
    """Length of the step to the next pixel along both axes of [..., H, W], in units of intensity
    per pixel; beyond the last row and column nothing changes."""
    images = np.asarray(images, dtype=np.float64)
    down = np.diff(images, axis=-2, append=images[..., -1:, :])
    right = np.diff(images, axis=-1, append=images[..., -1:])
    return np.hypot(down, right)


def gradient_distance(
    output: NDArray[np.floating], target: NDArray[np.floating], mask: Mask
) -> float:
    """How far the sharpness of the output is from that of the target: earth mover's distance
    between the distributions of `gradient_magnitude` inside the mask (which must not be empty), in
    model units per pixel. 0 is ideal; blur and noise both raise it, wherever they are.

    Between as many values on either side that is the mean difference of the values in order, so no
    bins are needed (Vallender, Theory Probab Appl 1974;18:784).
    """
    ours = np.sort(gradient_magnitude(output)[mask])
    theirs = np.sort(gradient_magnitude(target)[mask])
    return float(np.mean(np.abs(ours - theirs)))


def roughness(stack: NDArray[np.floating], mask: Mask | None = None) -> float:
    """Mean absolute second difference of [S, H, W] along the slice axis; NaN below three slices.

    With a mask, over the places where three slices in a row are inside it (NaN if there are none).
    """
    stack = np.asarray(stack, dtype=np.float64)
    if len(stack) < 3:
        return float("nan")
    bend = np.abs(stack[2:] - 2 * stack[1:-1] + stack[:-2])
    if mask is not None:
        bend = bend[mask[2:] & mask[1:-1] & mask[:-2]]
    return float(bend.mean()) if bend.size else float("nan")


def flicker(
    output: NDArray[np.floating], target: NDArray[np.floating], mask: Mask | None = None
) -> float:
    """Roughness of the output along the slice axis over that of the real target: 1 is ideal, more
    is flicker, less is blur. NaN where the target has none (fewer than three slices, constant)."""
    real = roughness(target, mask)
    return roughness(output, mask) / real if real > 0 else float("nan")


def texture_continuity(stack: NDArray[np.floating], mask: Mask) -> float:
    """How far the texture of [S, H, W] runs from slice to slice: the correlation of neighbouring
    slices where both are inside the mask, each less its mean over 5 x 5 pixels. 1: streaks, 0:
    unrelated texture; what is right is what the real target has. NaN where it has no meaning."""
    stack = np.asarray(stack, dtype=np.float64)
    texture = stack - ndimage.uniform_filter(stack, (1, 5, 5))
    both = mask[1:] & mask[:-1]
    first, second = texture[1:][both], texture[:-1][both]
    if first.size < 2 or not (first.std() > 0 and second.std() > 0):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def dilate(mask: Mask, radius: int) -> Mask:
    """`mask` [..., H, W] grown in plane by a square of 2 radius + 1 pixels."""
    return np.asarray(ndimage.maximum_filter(mask, _square(mask, radius)))


def erode(mask: Mask, radius: int) -> Mask:
    """`mask` [..., H, W] shrunk in plane by a square of 2 radius + 1 pixels."""
    return np.asarray(ndimage.minimum_filter(mask, _square(mask, radius)))


def _square(mask: Mask, radius: int) -> tuple[int, ...]:
    """The size of a square in the last two axes."""
    return (1,) * (mask.ndim - 2) + (2 * radius + 1,) * 2
