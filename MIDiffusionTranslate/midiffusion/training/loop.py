"""One training run: a visible loop, checkpoints that hold everything, a log."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InvalidData, InvalidParameter
from .ema import PowerAverage
from .processes import Processes

WARMUP_STEPS = 200
REPORT_S = 5.0
CHECKPOINT_S, FIRST_CHECKPOINT_S = 120.0, 10.0  # the first soon: something to see
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class LoopConfig:
    """What every run has.

    Args:
        images: length of the run; the learning rate falls to zero at its end (cosine).
        batch: images of one step, of all processes together.
        learning_rate, seed: Adam with betas 0.9 and 0.99.
        average: relative width of the power average of the weights (see `ema`).
    """

    images: int = 600_000
    batch: int = 16
    learning_rate: float = 1e-3
    average: float = 0.05
    seed: int = 0


class TrainingRun:
    """A run; subclasses give `losses`.

    Args:
        config: see `LoopConfig`; a checkpoint keeps it and refuses another one.
        model: what is trained, on its device.
        names: of the losses, columns of the log.
    """

    def __init__(self, config: LoopConfig, model: nn.Module, names: tuple[str, ...]) -> None:
        self.config, self.model, self.names = config, model, names
        self.average = PowerAverage(model, config.average)
        rate = config.learning_rate
        self.optimiser = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99))
        self.processes = Processes()
        self.batch = self.processes.share(config.batch)  # of this process
        self.generator = torch.Generator().manual_seed(config.seed + self.processes.rank)
        self.step, self.seconds = 0, 0.0

    def to(self, device: torch.device) -> None:
        """Move model and average to a device, before `resume` and the first step."""
        self.model.to(device)
        self.average.average.to(device)

    def losses(self) -> Tensor:
        """Losses of one batch, [names]; every random number comes from `self.generator`."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def images(self) -> int:
        """Images seen so far."""
        return self.step * self.config.batch

    def run(
        self,
        out: Path,
        stop: Callable[[], bool] = lambda: False,
        on_checkpoint: Callable[[], object] = lambda: None,
        max_seconds: float = math.inf,
    ) -> None:
        """Train to the end, until `stop()` or for `max_seconds` in all; leave `log.csv` and
        checkpoints in `out`. With a time limit the learning rate falls to zero at that time.

        Raises:
            InvalidData: the loss is not finite.
        """
        out.mkdir(parents=True, exist_ok=True)
        self.processes.connect(self.device)
        started = time.monotonic() - self.seconds
        saved, pause = time.monotonic(), FIRST_CHECKPOINT_S
        total, since, first = torch.zeros(len(self.names)), time.monotonic(), self.step
        ending = False
        while not ending:
            done = max(self.images / self.config.images, self.seconds / max_seconds)
            total += self._one_step(done)
            now = time.monotonic()
            over = self.images >= self.config.images or now - started >= max_seconds
            ending, save, self.seconds = self._agreed(
                stop() or over, now - saved > pause, now - started
            )
            if self.processes.first and (save or now - since > REPORT_S):
                count = self.step - first
                self._log(out, (total / count).tolist(), count * self.config.batch / (now - since))
                total.zero_()
                since, first = now, self.step
            if save:
                self.checkpoint(out)
                if self.processes.first:
                    on_checkpoint()
                saved, pause = time.monotonic(), CHECKPOINT_S
        self.processes.disconnect()

    def _agreed(self, ending: bool, save: bool, seconds: float) -> tuple[bool, bool, float]:
        """What the first process decides for all."""
        values = [float(ending), float(ending or save), seconds]
        ending_, save_, seconds = self.processes.agree(values, self.device)
        return bool(ending_), bool(save_), seconds

    def _one_step(self, done: float) -> Tensor:
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        rate = self.config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self.losses()
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        mean = self.processes.average(self.model, losses.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return mean.cpu()

    def _log(self, out: Path, losses: list[float], speed: float) -> None:
        if not all(math.isfinite(loss) for loss in losses):
            raise InvalidData("The loss is not finite; lower the learning rate or check the data.")
        path = out / "log.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(("step", "seconds", "images", *self.names, "images_per_second"))
            rounded = (f"{loss:.5f}" for loss in losses)
            writer.writerow(
                (self.step, f"{self.seconds:.1f}", self.images, *rounded, f"{speed:.1f}")
            )

    def _settings(self) -> str:
        return json.dumps(asdict(self.config), sort_keys=True)

    def checkpoint(self, out: Path) -> None:
        """Write everything that `resume` needs, whole or not at all. Raises OSError."""
        tensors = {"generator": self.processes.states(self.generator, self.device)}
        if not self.processes.first:
            return
        tensors |= {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.average.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"adam.{name}.{moment}"] = self.optimiser.state[parameter][moment]
        metadata = {
            "config": self._settings(),
            "step": str(self.step),
            "seconds": repr(self.seconds),
        }
        temporary = out / (CHECKPOINT + ".partial")
        stored = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        try:
            save_file(stored, temporary, metadata)
            os.replace(temporary, out / CHECKPOINT)
        finally:
            temporary.unlink(missing_ok=True)

    def resume(self, out: Path) -> None:
        """Go on from the checkpoint in `out`, with any number of processes.

        Raises:
            InvalidParameter: there is none, or it belongs to another configuration.
        """
        path = out / CHECKPOINT
        if not path.is_file():
            raise InvalidParameter(f"There is nothing to resume: {path} does not exist.")
        with safe_open(path, "pt") as file:
            metadata: dict[str, Any] = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata["config"] != self._settings():
            raise InvalidParameter(
                f"{path} was made with another configuration; train into a new folder."
            )
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        rank = self.processes.rank
        states = tensors["generator"].reshape(-1, len(self.generator.get_state()))
        if rank < len(states):
            self.generator.set_state(states[rank].clone())  # a view crashes it
        else:  # more processes than before: numbers that none has had
            self.generator.manual_seed(self.config.seed + rank + 1_000_003 * self.step)
        for prefix, module in (("model.", self.model), ("average.", self.average.average)):
            part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            module.load_state_dict(part)
        for name, parameter in self.model.named_parameters():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(self.step)),
                **{
                    moment: tensors[f"adam.{name}.{moment}"].to(parameter.device)
                    for moment in ("exp_avg", "exp_avg_sq")
                },
            }
