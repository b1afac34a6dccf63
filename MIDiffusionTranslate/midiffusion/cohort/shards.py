"""Shards of a cohort, and what of the machine a shard may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import InvalidParameter

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
_Any = TypeVar("_Any")


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count`."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "I/N", I from 1 to N. Raises InvalidParameter."""
        try:
            number, count = (int(part) for part in text.split("/"))
        except ValueError:
            number, count = 0, 0
        if not 1 <= number <= count:
            raise InvalidParameter(f"--shard is {text!r}: write I/N with I from 1 to N, as in 2/8.")
        return cls(number, count)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Shard:
        """The task of a Slurm array; outside of one, the only shard."""
        try:
            task = int(environment["SLURM_ARRAY_TASK_ID"])
            first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
            step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
            return cls((task - first) // step + 1, int(environment["SLURM_ARRAY_TASK_COUNT"]))
        except (KeyError, ValueError, ZeroDivisionError):
            return cls()

    @property
    def name(self) -> str:
        """Empty for the only one, else for example "2-of-8"."""
        return "" if self.count == 1 else f"{self.number}-of-{self.count}"

    def of(self, items: Sequence[_Any]) -> list[_Any]:
        """Every `count`-th item: sizes of neighbours are alike, so shards take equally long."""
        return list(items[self.number - 1 :: self.count])


def cpus(environment: Mapping[str, str] = os.environ, cgroup: Path = _CGROUP_CPU) -> int:
    """CPUs that this process may use: of its affinity, its cgroup and its Slurm task the least."""
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    try:
        quota, period = cgroup.read_text().split()
        limits.append(max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or "max"
        pass
    with contextlib.suppress(KeyError, ValueError):
        limits.append(max(1, int(environment["SLURM_CPUS_PER_TASK"])))
    return min(limits)
