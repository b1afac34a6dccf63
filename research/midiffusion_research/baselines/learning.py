"""The one training loop of the methods that learn here: a step again and again, within a budget.

What a step does is the method's own affair. Learning rates are not: a warm-up of 50 steps, though
of no more than a tenth of the budget, then a line down to zero at the end of the budget, whether
that is in seconds or in steps, for all alike. No checkpoint is written: a method either spends its
budget or is not in the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor

from midiffusion_research.training.augmentation import RandomContrast, RandomGeometry
from midiffusion_research.training.configuration import CONFIGS, TrainingConfig

from ..report import say
from .method import Budget

WARMUP_STEPS = 50
_WARMUP_SHARE = 0.1  # of the budget, at most: a short one would end before the rise does
_REPORT_S = 5.0


def learn(
    name: str,
    step: Callable[[], None],
    optimisers: Sequence[torch.optim.Optimizer],
    budget: Budget,
) -> int:
    """Calls `step` until the budget is spent and returns how often.

    name: of the method, for the progress on stderr. optimisers: those that `step` drives; their
    learning rates as given are the peaks.
    """
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    peaks = [group["lr"] for group in groups]
    started = reported = time.monotonic()
    steps = 0
    while not budget.spent(elapsed := time.monotonic() - started, steps):
        share = budget.share(elapsed, steps)
        warm = max((steps + 1) / WARMUP_STEPS, share / _WARMUP_SHARE)
        factor = min(1.0, warm) * (1.0 - share)
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * factor
        step()
        steps += 1
        if time.monotonic() - reported > _REPORT_S:
            reported = time.monotonic()
            share = budget.share(reported - started, steps)
            say(f"{name}: {steps} steps, {share:.0%} of the budget", last=False)
    say(f"{name}: {steps} steps learnt in {time.monotonic() - started:.0f} s", last=True)
    return steps


def minimise(optimiser: torch.optim.Optimizer, loss: Tensor, longest: float = math.inf) -> None:
    """One step of an optimiser down the gradient of a loss, cut to the norm `longest`."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if longest < math.inf:
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, longest)
    optimiser.step()


def moved(random: torch.Generator, *stacks: Tensor) -> list[Tensor]:
    """Each stack [B, 1, H, W] after the random geometry of our own training, the same for all."""
    geometry = RandomGeometry()
    place = geometry.draw(len(stacks[0]), random)
    return [geometry.apply(stack, place) for stack in stacks]


def some(stack: Tensor, count: int, random: torch.Generator) -> Tensor:
    """`count` random slices of a stack, with repetition."""
    return stack[torch.randint(len(stack), (count,), generator=random)]


def network_of_the_bundles() -> dict[str, object]:
    """Arguments of `UNetConfig` but the conditioning: what the shipped models are trained with."""
    return TrainingConfig.for_target("flair").network


def contrast_of_the_bundles(target_modality: str) -> RandomContrast:
    """How the source's contrast is randomised in the training of the shipped model of a target."""
    known = {path.stem for path in CONFIGS.glob("*.json")}
    target = {"MR": "t1"}.get(target_modality, target_modality.lower())
    return RandomContrast(**TrainingConfig.for_target(target).contrast if target in known else {})


def shipped_settings(target_modality: str) -> dict[str, object]:
    """All that learners take from the shipped training configurations, JSON types."""
    contrast = asdict(contrast_of_the_bundles(target_modality))
    return {"network": network_of_the_bundles(), "contrast": contrast}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's own random numbers start from `seed` inside, and outside go on as if nothing was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
