"""In which number format the network computes: the fast one where the device really has it.

Only the network: the state of the sampler, the preconditioning around the network, the LMI maps and
everything on the volume's grid stay float32. Weights come in half precision and their rounding is
of the size of bfloat16's, so what the network says of an image loses little: its output is scaled
by the noise level where that is small (arXiv 2206.00364, c_out in table 1), and so are its errors.

The choice follows from what the device says of itself, never from a measurement, so that a
computer always chooses the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

# The processors' own units; with AVX-512 alone bfloat16 is emulated, and slower than float32.
_CPU_UNITS = ("avx512_bf16", "amx_bf16")
_AMPERE = (8, 0)  # the first generation of CUDA devices that computes in bfloat16


def network_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where `device` has units for it, float32 elsewhere.

    A CPU is asked through PyTorch; a PyTorch too old to tell means float32.
    """
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= _AMPERE
    elif device.type == "cpu" and torch.backends.mkldnn.is_available():
        units: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = any(units.get(unit, False) for unit in _CPU_UNITS)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def computing_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Within it the layers of a float32 network compute in `dtype`, inputs and outputs included."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


@contextmanager
def reproducible() -> Iterator[None]:
    """No gradients; on CUDA, convolutions in true float32 and by reproducible algorithms, so that
    a result does not depend on the size of the batches."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ),
    ):
        yield
