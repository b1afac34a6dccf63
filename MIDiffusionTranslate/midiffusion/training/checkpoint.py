"""Resumable checkpoints as one safetensors file: nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import InvalidParameter
from .configuration import TrainingConfig

if TYPE_CHECKING:
    from .loop import TrainingState

NAME = "checkpoint.safetensors"


def save_checkpoint(folder: Path, config: TrainingConfig, state: TrainingState) -> None:
    """Write the state of a run, whole or not at all. Raises OSError."""
    tensors: dict[str, Tensor] = {"generator": state.generator.get_state()}
    tensors |= {f"model.{k}": v for k, v in state.denoiser.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.average.state_dict().items()}
    for name, parameter in state.denoiser.named_parameters():
        moments = state.optimiser.state[parameter]
        tensors[f"adam.{name}.exp_avg"] = moments["exp_avg"]
        tensors[f"adam.{name}.exp_avg_sq"] = moments["exp_avg_sq"]
    metadata = {
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "step": str(state.step),
        "seconds": repr(state.seconds),
    }
    temporary = folder / (NAME + ".partial")
    # Not safetensors' own file: its failures don't say that the disk is full.
    stored = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
    try:
        temporary.write_bytes(stored)
        os.replace(temporary, folder / NAME)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, config: TrainingConfig, state: TrainingState) -> None:
    """Restore `state` in place.

    Raises:
        InvalidParameter: there is no checkpoint, or it belongs to another configuration.
    """
    path = folder / NAME
    if not path.is_file():
        raise InvalidParameter(f"There is nothing to resume: {path} does not exist.")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if metadata["config"] != json.dumps(config.to_dict(), sort_keys=True):
        raise InvalidParameter(
            f"{path} was made with another configuration; train into a new folder."
        )
    state.step, state.seconds = int(metadata["step"]), float(metadata["seconds"])
    state.generator.set_state(tensors["generator"])
    for prefix, module in (("model.", state.denoiser), ("average.", state.average.average)):
        module.load_state_dict(
            {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        )
    for name, parameter in state.denoiser.named_parameters():
        moments = {
            m: tensors[f"adam.{name}.{m}"].to(parameter.device) for m in ("exp_avg", "exp_avg_sq")
        }
        state.optimiser.state[parameter] = {"step": torch.tensor(float(state.step)), **moments}
