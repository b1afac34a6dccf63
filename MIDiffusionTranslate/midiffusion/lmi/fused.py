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

from ..runtime.memory import is_shortage
from .patches import Neighbourhood

# What one program works on: pixels, those of histograms with LANES x LANES entries in registers.
# LANES: a power of two that holds the bins.
BLOCKS = {
    "kde": {"PIXELS": 128},
    "shannon": {"PIXELS": 4, "LANES": 32},
    "reference": {"PIXELS": 4, "LANES": 32},
}


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
        found = maps("kde", image, image, Neighbourhood(3, 1), 0.04, None, False, True)
        if not bool((found > 0).all()):
            raise RuntimeError("its result is wrong")
    except Exception as error:  # the import's, the compiler's, the driver's: all mean the same
        if is_shortage(error):
            raise
        logging.getLogger(__name__).info("LMI without Triton, which can't be used: %s", error)
        return False
    return True


def maps(
    estimator: str,
    u: Tensor,
    v: Tensor,
    hood: Neighbourhood,
    bandwidth: float,
    sigma_v: Tensor | None,
    shift: bool,
    normalised: bool,
    **constants: int,
) -> Tensor:
    """As `kde.maps` or `shannon.maps`, for images [B, H, W] in float32; constants of there."""
    width_u = u.new_full((len(u),), bandwidth)
    width_v = width_u if sigma_v is None else (bandwidth**2 + sigma_v**2).sqrt()
    flags = {"SIZE": hood.size, "REACH": int(shift), "NORMALISED": normalised, **constants}
    return _launch(estimator, (u, v, width_u, width_v), hood.dilation, **flags)


def reference(u: Tensor, v: Tensor, shift: bool, normalised: bool, **constants: float) -> Tensor:
    """As `reference.maps`, for images [B, H, W] in float32; constants of there."""
    return _launch("reference", (u, v), SEARCH=shift, NORMALISED=normalised, **constants)


def _launch(name: str, tensors: tuple[Tensor, ...], *sizes: int, **flags: Any) -> Tensor:
    from . import kernels

    first, block = tensors[0], BLOCKS[name]
    batch, height, width = first.shape
    out = torch.empty_like(first, memory_format=torch.contiguous_format)
    programs = batch * -(-height * width // block["PIXELS"])
    with torch.cuda.device_of(first):
        getattr(kernels, name)[(programs,)](
            *(tensor.contiguous() for tensor in tensors),
            out,
            height,
            width,
            *sizes,
            **block,
            **flags,
        )
    return out
