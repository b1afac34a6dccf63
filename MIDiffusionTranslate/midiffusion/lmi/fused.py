"""LMI maps by one launch of a Triton kernel; `serves` decides where.

On a GPU the tiled estimators are hundreds of small launches that read and write memory between
them. A fused kernel reads the images and writes the map; densities stay in registers. Nothing is
kept for gradients.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor

from ..memory import is_shortage
from .patches import Neighbourhood

LANES = 32  # a power of two that holds the bins of a histogram
KDE_PIXELS = 128
JOINT_PIXELS = 4  # of LANES x LANES entries each


def serves(u: Tensor, v: Tensor) -> bool:
    """Whether maps of these images come from here: on one CUDA device with a Triton that works, in
    float32, and nobody asks for a gradient."""
    wanted = torch.is_grad_enabled() and (u.requires_grad or v.requires_grad)
    single = u.dtype == v.dtype == torch.float32
    return u.is_cuda and u.device == v.device and single and not wanted and works(u.device)


@functools.cache
def works(device: torch.device) -> bool:
    """Whether Triton can be used there; tried once: it may not be installed, not know the GPU, or
    lack a C compiler or Python's headers, as in an application that brings its own Python.

    Raises what a GPU without memory raises: that says nothing about Triton.
    """
    try:
        image = torch.linspace(0, 1, 16, device=device).view(1, 4, 4)
        found = kde(image, image, Neighbourhood(3, 1), 0.04, None, False, True)
        if not bool((found > 0).all()):
            raise RuntimeError("its result is wrong")
    except Exception as error:  # the import's, the compiler's, the driver's: all mean the same
        if is_shortage(error):
            raise
        logging.getLogger(__name__).info("LMI without Triton, which can't be used: %s", error)
        return False
    return True


def kde(
    u: Tensor,
    v: Tensor,
    hood: Neighbourhood,
    bandwidth: float,
    sigma_v: Tensor | None,
    shift: bool,
    normalised: bool,
) -> Tensor:
    """As `kde.maps`, for images [B, H, W] in float32."""
    width_u, width_v = _kernel_widths(u, bandwidth, sigma_v)
    return _launch(
        "kde",
        (u, v, -0.5 / width_u**2, -0.5 / width_v**2),
        KDE_PIXELS,
        hood.dilation,
        SIZE=hood.size,
        REACH=int(shift),
        NORMALISED=normalised,
    )


def shannon(
    u: Tensor,
    v: Tensor,
    hood: Neighbourhood,
    bandwidth: float,
    sigma_v: Tensor | None,
    shift: bool,
    normalised: bool,
    bins: int,
) -> Tensor:
    """As `shannon.maps`, for images [B, H, W] in float32."""
    return _launch(
        "shannon",
        (u, v, *_kernel_widths(u, bandwidth, sigma_v)),
        JOINT_PIXELS,
        hood.dilation,
        SIZE=hood.size,
        REACH=int(shift),
        NORMALISED=normalised,
        BINS=bins,
        LANES=LANES,
    )


def reference(u: Tensor, v: Tensor, shift: bool, normalised: bool, **constants: float) -> Tensor:
    """As `reference.maps`, for images [B, H, W] in float32; the constants are those of there."""
    return _launch(
        "reference",
        (u, v),
        JOINT_PIXELS,
        SEARCH=shift,
        NORMALISED=normalised,
        LANES=LANES,
        **constants,
    )


def _kernel_widths(u: Tensor, bandwidth: float, sigma_v: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of both images' density kernels, [B] each."""
    width_u = u.new_full((len(u),), bandwidth)
    return width_u, width_u if sigma_v is None else (bandwidth**2 + sigma_v**2).sqrt()


def _launch(
    name: str, tensors: tuple[Tensor, ...], pixels: int, *sizes: int, **flags: Any
) -> Tensor:
    from . import kernels

    first = tensors[0]
    batch, height, width = first.shape
    out = torch.empty_like(first, memory_format=torch.contiguous_format)
    blocks = -(-height * width // pixels)  # of each slice
    with torch.cuda.device_of(first):
        getattr(kernels, name)[(blocks * batch,)](
            *(tensor.contiguous() for tensor in tensors),
            out,
            height,
            width,
            *sizes,
            PIXELS=pixels,
            **flags,
        )
    return out
