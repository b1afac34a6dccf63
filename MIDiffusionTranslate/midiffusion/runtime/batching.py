"""Working through many slices in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import OutOfMemory
from .device import free_bytes, memory_state
from .memory import is_shortage

# On a CPU larger batches don't get faster (their maps leave the cache), only slower to cancel.
_CPU_BATCH = 4
_GPU_BATCH = 64


class SliceBatches:
    """Computes on many slices in batches; where one does not fit, in batches half as large.

    The results don't depend on the size of the batches, if what is computed of one slice does not
    depend on the others. The size found stays for later calls.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.device = device
        self.size = size or (_GPU_BATCH if device.type == "cuda" else _CPU_BATCH)

    def fit(self, compute: Callable[[slice], Tensor]) -> None:
        """On CUDA: measures what one slice takes and chooses a size that half the free memory
        holds."""
        if self.device.type != "cuda":
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.size = 1
        self._run(compute, slice(0, 1))
        used = torch.cuda.max_memory_allocated(self.device) - before
        free = free_bytes(self.device) or 0
        self.size = max(1, min(_GPU_BATCH, free // (2 * max(used, 1))))

    def map(
        self,
        slices: int,
        compute: Callable[[slice], Tensor],
        on_batch: Callable[[int], None] | None = None,
    ) -> Tensor:
        """compute(part) -> [len(part), ...] for `slices` slices (1 at least), joined in their
        order: [slices, ...].

        on_batch(done) is called after each batch with the number of slices done; what it raises
        ends the work. Raises OutOfMemory if not even one slice fits.
        """
        result: Tensor | None = None
        start = 0
        while start < slices:
            part = slice(start, min(start + self.size, slices))
            values = self._run(compute, part)
            if values is None:
                self._shrink(part)
                continue
            if result is None:
                result = values.new_empty(slices, *values.shape[1:])
            result[part] = values
            start = part.stop
            if on_batch is not None:
                on_batch(start)
        assert result is not None  # a volume has at least one slice
        return result

    def _run(self, compute: Callable[[slice], Tensor], part: slice) -> Tensor | None:
        """None if memory ran out. The exception is gone when we return, and with it the tensors
        that its frames held."""
        try:
            return compute(part)
        except (RuntimeError, MemoryError) as failure:
            if not is_shortage(failure):
                raise
            return None

    def _shrink(self, part: slice) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        count = part.stop - part.start
        if count == 1:
            raise OutOfMemory(
                f"Not even one slice at a time fits into the memory of {memory_state(self.device)}:"
                " close other programs, choose another device, or crop the volume."
            )
        self.size = count // 2
