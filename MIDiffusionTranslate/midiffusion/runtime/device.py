"""Where to compute, and how much memory that takes."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

import torch

from ..errors import DeviceUnavailable, InvalidParameter
from ..models.names import is_device
from . import memory


def choose_device(name: str = "auto") -> torch.device:
    """The device called auto, cpu, cuda, cuda:<number> or mps; "auto" is the fastest that works.

    Raises InvalidParameter (no such name) and DeviceUnavailable (not in this computer, or not
    usable by the PyTorch installed).
    """
    if not is_device(name):
        raise InvalidParameter(
            f"Unknown device {name!r}: use auto, cpu, cuda, cuda:<number> or mps."
        )
    if name == "auto":
        for candidate in ("cuda", "mps"):
            if _problem(candidate) is None:
                return torch.device(candidate)
        return torch.device("cpu")
    problem = _problem(name)
    if problem is not None:
        raise DeviceUnavailable(
            f"The device {name} can't be used ({problem}): choose auto or cpu, or install a "
            "PyTorch made for it."
        )
    return torch.device(name)


def _problem(name: str) -> str | None:
    """Why PyTorch can't compute there, or None. It is tried: a GPU may be too new or too full."""
    if name == "mps" and not torch.backends.mps.is_available():
        return "PyTorch finds no Apple GPU"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA GPU"
        index = torch.device(name).index or 0
        if index >= torch.cuda.device_count():
            return f"the GPUs here are cuda:0 to cuda:{torch.cuda.device_count() - 1}"
    try:
        (torch.zeros(1, device=name) + 1).item()
    except RuntimeError as failure:
        return str(failure).splitlines()[0]
    return None


def describe(device: torch.device) -> str:
    """The device's name for people: "cuda:0 (NVIDIA H100)" or "cpu (AMD EPYC, 2 threads)"."""
    if device.type == "cuda":
        return f"cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({_processor()}, {_threads(torch.get_num_threads())})"
    return str(device)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _processor() -> str:
    with suppress(OSError):  # Linux says more there
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes(device: torch.device) -> int | None:
    """Most memory used so far, in bytes: on the GPU there, on the CPU by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return memory.peak_bytes()


def free_bytes(device: torch.device) -> int | None:
    """Memory that is still free, in bytes: on the GPU there, in the computer otherwise; None where
    it isn't known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept  # PyTorch gives its own out again
    return memory.free_bytes()


def memory_state(device: torch.device) -> str:
    """The device with what is known of its memory, such as "cpu (812 MB used)"."""
    known = memory.figures(memory_bytes(device), free_bytes(device))
    return f"{device} ({known})" if known else str(device)
