"""The processes of one training: `torchrun --nproc-per-node N -m midiffusion train ...`.

Every process draws its share of the batch and computes its gradients; their mean is that of the
whole batch. All processes hold the same weights. The first one keeps the time and writes the files.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InvalidParameter


class Processes:
    """Rank and number of the processes that torchrun started; one without it."""

    def __init__(self) -> None:
        # WORLD_SIZE alone says little: clusters set it for other programs too.
        started = "TORCHELASTIC_RUN_ID" in os.environ
        self.count = int(os.environ["WORLD_SIZE"]) if started else 1
        self.rank = int(os.environ["RANK"]) if started else 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def device(self, chosen: torch.device) -> torch.device:
        """The device of this process: on CUDA one GPU each."""
        if self.count == 1 or chosen.type != "cuda":
            return chosen
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def connect(self, device: torch.device) -> None:
        """Wait for the others; `device` decides how they talk: NCCL on CUDA, else gloo."""
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def disconnect(self) -> None:
        """Wait until all are here and part; without it a process may crash as it ends."""
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()

    def share(self, batch: int) -> int:
        """Images of this process in a batch. Raises InvalidParameter if it can't be divided."""
        if batch % self.count:
            raise InvalidParameter(
                f"A batch of {batch} images can't be divided among {self.count} processes: start a "
                "number of processes that divides it."
            )
        return batch // self.count

    def average(self, model: nn.Module, losses: Tensor) -> Tensor:
        """Replace the gradients by their mean over the processes; returns that of the losses."""
        if self.count == 1:
            return losses
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        parts = [*gradients, losses]
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        flat /= self.count
        *means, mean = flat.split([part.numel() for part in parts])
        for gradient, found in zip(gradients, means, strict=True):
            gradient.copy_(found.view_as(gradient))
        return mean

    def agree(self, values: list[float], device: torch.device) -> list[float]:
        """The values of the first process."""
        if self.count == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=device)
        dist.broadcast(shared, 0)
        return list(shared.tolist())

    def states(self, generator: torch.Generator, device: torch.device) -> Tensor:
        """State of every process's generator, [count, N]."""
        own = generator.get_state()
        if self.count == 1:
            return own[None]
        every = [torch.empty_like(own, device=device) for _ in range(self.count)]
        dist.all_gather(every, own.to(device))
        return torch.stack(every).cpu()
