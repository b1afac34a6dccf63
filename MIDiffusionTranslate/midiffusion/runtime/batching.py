"""Working through many slices in slabs and batches that fit into memory."""

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
# Where memory has no place of its own on a GPU: 256 slices of 128 x 128, an ordinary volume.
SLAB_PIXELS = 2**22


def even_parts(slices: int, most: int, multiple: int = 1) -> list[slice]:
    """All slices in their order, in as few parts as possible of at most `most` (1 at least) each:
    parts of one size, the last a little smaller, multiples of `multiple` where `most` allows it."""
    multiple = max(1, min(multiple, most))
    most = max(1, most - most % multiple)
    even = -(-slices // -(-slices // most))
    size = -(-even // multiple) * multiple
    return [slice(start, min(start + size, slices)) for start in range(0, slices, size)]


class SliceBatches:
    """Computes on many slices in batches; where one does not fit, in batches half as large.

    The results don't depend on the size of the batches, if what is computed of one slice does not
    depend on the others. The size found stays for later calls.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.device = device
        self.size = size or (_GPU_BATCH if device.type == "cuda" else _CPU_BATCH)

    def slabs(self, like: Tensor, images: int) -> list[slice]:
        """Slabs of the slices `like` [S, ...] for work that keeps `images` images of each slice on
        the device. On CUDA half the free memory holds them; elsewhere they are whole batches, so
        that the batches are the same as without slabs."""
        pixels = like[0].numel()
        if self.device.type != "cuda":
            return even_parts(len(like), SLAB_PIXELS // pixels, self.size)
        free = free_bytes(self.device) or 0
        return even_parts(len(like), free // (2 * images * pixels * like.element_size()))

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
