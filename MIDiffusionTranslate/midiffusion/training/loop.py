"""The training loop: eq. 12 over batches of augmented slices, within a time budget, resumable."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conditioning import LMICondition, LMISettings
from ..denoiser import Denoiser
from ..errors import InvalidData
from ..head import BONE_HU, SOLID_HU, without_couch
from ..intensity import HounsfieldIntensity, intensity_map
from ..loss import denoising_loss, draw_sigma
from ..network import UNet, UNetConfig
from .augmentation import RandomContrast, RandomExtraction, RandomFieldOfView, RandomGeometry
from .checkpoint import load_checkpoint, save_checkpoint
from .configuration import TrainingConfig
from .data import TrainingSlices, load_slices
from .ema import PowerAverage

WARMUP_STEPS = 200
REPORT_S = 5.0
CHECKPOINT_S, FIRST_CHECKPOINT_S = 120.0, 10.0  # the first soon: something to see
VALIDATION_SLICES = 64
LOG_COLUMNS = ("step", "seconds", "images", "loss", "validation_loss", "images_per_second")


@dataclass
class TrainingState:
    """What a run carries from step to step and a checkpoint keeps."""

    denoiser: Denoiser
    average: PowerAverage
    optimiser: torch.optim.Adam
    generator: torch.Generator
    subjects: tuple[str, ...]
    step: int = 0
    seconds: float = 0.0


def build_denoiser(config: TrainingConfig, sigma_data: float) -> Denoiser:
    """A fresh denoiser; its initial weights depend on `config.seed` alone."""
    settings = LMISettings(**config.lmi)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = UNet(UNetConfig(cond_channels=settings.channels, **config.network))
    return Denoiser(network, sigma_data)


def load_all(config: TrainingConfig, data: Path | str, part: str) -> TrainingSlices:
    """The slices of all sources of a configuration; those of CT without the couch."""
    parts = []
    for s in config.sources:
        found = load_slices(
            data,
            s,
            part=part,
            pixel_mm=config.pixel_mm,
            size=config.size,
            intensity=config.intensity,
            orientation=config.card["orientation"],
        )
        parts += [found] * (s.repeat if part == "train" else 1)
    images = np.concatenate([p.images for p in parts])
    mapping = intensity_map(config.intensity)
    if isinstance(mapping, HounsfieldIntensity):
        solid = float(mapping.forward(np.array(SOLID_HU))[0])
        slices = torch.from_numpy(images)[:, None]
        images = without_couch(slices, config.pixel_mm, solid)[:, 0].numpy()
    return TrainingSlices(images, tuple(s for p in parts for s in p.subjects))


def train(
    config: TrainingConfig,
    data: Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    max_minutes: float | None = None,
    resume: bool = False,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingState:
    """Train a target model and leave checkpoints and `log.csv` in a folder.

    Args:
        config: see `TrainingConfig`.
        data: data folder, see `training.data`.
        out: folder for `checkpoint.safetensors` and `log.csv`; made if missing.
        device: torch device.
        max_minutes: budget of the whole run, resumed parts included; `config.max_minutes` if None.
        resume: go on from the checkpoint in `out`.
        on_checkpoint: called with the state after each checkpoint and at the end.
        stop: asked after every step; true makes a checkpoint and ends the run.

    Returns:
        The final state; `state.average.average` is the model to ship.

    Raises:
        InvalidData: no usable slices, or a loss that is not finite.
        InvalidParameter: nothing to resume, or a checkpoint of another configuration.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    slices = load_all(config, data, "train")
    images = torch.from_numpy(slices.images)[:, None]
    validation = torch.from_numpy(load_all(config, data, "val").images)[:, None]
    denoiser = build_denoiser(config, float(images.square().mean().sqrt())).to(device)
    state = TrainingState(
        denoiser,
        PowerAverage(denoiser, config.ema),
        torch.optim.Adam(denoiser.parameters(), lr=config.learning_rate, betas=(0.9, 0.99)),
        torch.Generator().manual_seed(config.seed),
        slices.subjects,
    )
    if resume:
        load_checkpoint(out, config, state)
    budget = 60.0 * (config.max_minutes if max_minutes is None else max_minutes)
    with (out / "log.csv").open("a" if resume else "w", newline="", buffering=1) as log:
        writer = csv.writer(log)
        if not resume:
            writer.writerow(LOG_COLUMNS)
        place = torch.device(device)
        _run(config, images, validation, state, budget, place, writer, out, on_checkpoint, stop)
    return state


def _run(
    config: TrainingConfig,
    images: Tensor,
    validation: Tensor,
    state: TrainingState,
    budget: float,
    device: torch.device,
    log: Any,
    out: Path,
    on_checkpoint: Callable[[TrainingState], None] | None,
    stop: Callable[[], bool],
) -> None:
    spent, started = state.seconds, time.monotonic()
    reported = saved = started
    first_step, total = state.step, torch.zeros((), device=device)
    pause, stopped = FIRST_CHECKPOINT_S, False
    while state.seconds < budget and not stopped:
        _set_learning_rate(config, state, budget)
        loss = _step_loss(config, images, state, device)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.denoiser.parameters(), 1.0)
        state.optimiser.step()
        state.step += 1
        state.average.update(state.denoiser, state.step)
        total += loss.detach()
        now = time.monotonic()
        state.seconds = spent + now - started
        stopped = stop()
        save = stopped or now - saved > pause or state.seconds >= budget
        if now - reported > REPORT_S or save:
            count = state.step - first_step
            mean = float(total) / count
            if not math.isfinite(mean):
                raise InvalidData(
                    "The training loss is not finite; lower learning_rate or check the data."
                )
            held_back = validation_loss(config, validation, state, device) if save else None
            speed = count * config.batch / (now - reported)
            log.writerow(_row(config, state, mean, held_back, speed))
            _show_progress(state.seconds / budget, state.step, mean, speed, budget - state.seconds)
            reported, first_step = now, state.step
            total.zero_()
        if save:
            save_checkpoint(out, config, state)
            saved, pause = now, CHECKPOINT_S
            if on_checkpoint:
                on_checkpoint(state)


def _set_learning_rate(config: TrainingConfig, state: TrainingState, budget: float) -> None:
    """A short rise, then a cosine that reaches zero when the time is up."""
    warm = min(1.0, (state.step + 1) / WARMUP_STEPS)
    rate = config.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * state.seconds / budget))
    for group in state.optimiser.param_groups:
        group["lr"] = rate


def _row(
    config: TrainingConfig, state: TrainingState, loss: float, held_back: float | None, speed: float
) -> tuple[str, ...]:
    return (
        str(state.step),
        f"{state.seconds:.1f}",
        str(state.step * config.batch),
        f"{loss:.5f}",
        "" if held_back is None else f"{held_back:.5f}",
        f"{speed:.1f}",
    )


def _step_loss(
    config: TrainingConfig, images: Tensor, state: TrainingState, device: torch.device
) -> Tensor:
    """Loss of one batch: every random number comes from the run's generator, in a fixed order."""
    g = state.generator
    x0 = images[torch.randint(len(images), (config.batch,), generator=g)]
    x0 = moved(config, x0, g)
    return batch_loss(config, state.denoiser, x0, config.dropout, g, device)


def moved(config: TrainingConfig, x0: Tensor, g: torch.Generator) -> Tensor:
    """Images [B, 1, H, W] after random geometry and, some of them, extraction or a cut."""
    mapping, bone = intensity_map(config.intensity), None
    if isinstance(mapping, HounsfieldIntensity):
        bone = float(mapping.forward(np.array(BONE_HU))[0])
    for random in (
        RandomGeometry(),
        RandomExtraction(config.extraction, bone),
        RandomFieldOfView(config.cut),
    ):
        x0 = random.apply(x0, random.draw(len(x0), g))
    return x0


@torch.no_grad()
def validation_loss(
    config: TrainingConfig, images: Tensor, state: TrainingState, device: torch.device
) -> float | None:
    """Loss of the averaged weights on subjects held back, always the same slices under the same
    noise; None if there are none."""
    if not len(images):
        return None
    g = torch.Generator().manual_seed(config.seed)
    chosen = images[torch.linspace(0, len(images) - 1, VALIDATION_SLICES).long()]
    parts = chosen.split(config.batch)
    return sum(
        len(x0) * float(batch_loss(config, state.average.average, x0, 0.0, g, device))
        for x0 in parts
    ) / len(chosen)


def batch_loss(
    config: TrainingConfig,
    denoiser: Denoiser,
    x0: Tensor,
    dropout: float,
    g: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Mean of eq. 12 over images, each with a pseudo-source and noise drawn from a generator.

    Args:
        config: its LMI, contrast, noise levels and precision.
        denoiser: the network to judge, on `device`.
        x0: clean images after geometry, extraction and cut, [B, 1, H, W], model units, on the CPU.
        dropout: share of the images without a condition.
        g: every random number comes from it, in a fixed order.
        device: where the loss is computed.

    Returns:
        A scalar.
    """
    contrast, count = RandomContrast(**config.contrast), len(x0)
    pseudo_source = contrast.apply(x0, contrast.draw(x0, g))
    keep = (torch.rand(count, generator=g) >= dropout).float()
    sigma, noise = levels_and_noise(config, x0, g)
    x0, sigma, noise = x0.to(device), sigma.to(device), noise.to(device)
    settings = LMISettings(**config.lmi)
    condition = LMICondition(pseudo_source.to(device), settings, keep.to(device))
    with _autocast(config.precision, device):
        return denoising_loss(denoiser, x0, condition, sigma, noise).mean()


def levels_and_noise(
    config: TrainingConfig, x0: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels [B], model units, and standard normal noise for images [B, 1, H, W]."""
    count = len(x0)
    # Stratified over the batch: every batch sees the whole range of noise levels.
    strata = (torch.arange(count) + torch.rand(count, generator=g)) / count
    sigma = draw_sigma(
        strata, config.sigma_mean, config.sigma_std, config.sigma_min, config.sigma_max
    )
    return sigma, torch.randn(x0.shape, generator=g)


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _show_progress(share: float, step: int, loss: float, speed: float, left: float) -> None:
    filled = int(30 * min(share, 1.0))
    bar = "#" * filled + "-" * (30 - filled)
    end = "\r" if sys.stderr.isatty() else "\n"
    minutes, seconds = divmod(max(0, int(left)), 60)
    text = (
        f"[{bar}] step {step}  loss {loss:.4f}  {speed:.0f} images/s  {minutes}:{seconds:02d} left"
    )
    print(text, end=end, file=sys.stderr, flush=True)
