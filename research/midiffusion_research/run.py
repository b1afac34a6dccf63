"""Subjects and model of one direction, and the report of a command that measures on them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from midiffusion import __version__
from midiffusion.errors import InvalidParameter
from midiffusion.pipeline.target import TargetModel, load_model
from midiffusion.runtime.device import choose_device, describe

from .datasets import Dataset, Subject, dataset
from .datasets.subject import chosen
from .report import write_json
from .targetmodel import existing_model


@dataclass(frozen=True)
class Run:
    """One direction of a collection, measured on a device.

    folder: of the collection, or the one round it. json: file of the figures, None for none.
    """

    data: Dataset
    direction: str
    folder: Path
    device: torch.device
    json: Path | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Run:
        """As `options.add_run` has asked. Raises InvalidParameter for a direction that the
        collection doesn't have, and DeviceUnavailable."""
        data = dataset(options.dataset)
        direction = options.direction or data.directions[0]
        chosen(direction, data.directions, data.name)
        return cls(data, direction, options.data, choose_device(options.device), options.json)

    @property
    def name(self) -> str:
        """Of the collection and the direction, for people."""
        return f"{self.data.name} {self.direction}"

    @property
    def target(self) -> str:
        """In lower case, as in the direction."""
        return self.direction.split(":")[1]

    @property
    def modality(self) -> str:
        """The target's, in capitals, as the scorer takes it."""
        return self.target.upper()

    def subjects(self, split: str = "val", most: int | None = None) -> list[Subject]:
        """The first `most` of a split, all if None; raises as `Dataset.load` does."""
        return self.data.load(self.folder, self.direction, split, most)

    def model(self, options: argparse.Namespace) -> TargetModel:
        """The bundle that `options.add_model` has asked for, else the target's. Raises
        InvalidParameter where none serves the target, else as `load_model` does."""
        entry = existing_model(self.data, self.target, options.model, options.model_folder)
        if entry is None:
            raise InvalidParameter(f"No bundle serves {self.name}: name one with --model.")
        return load_model(entry.folder)

    @property
    def settings(self) -> dict[str, object]:
        """What every report says first."""
        return {
            "version": __version__,
            "device": describe(self.device),
            "dataset": self.data.name,
            "direction": self.direction,
        }

    def show(self, facts: str, text: str) -> None:
        """Prints the text below a line that says of what, of how many and where it is."""
        print(f"{self.name}, {facts}, {describe(self.device)}\n\n{text}")

    def publish(self, facts: str, text: str, figures: Mapping[str, object]) -> None:
        """Shows the text, and keeps the figures with the settings, if they are to be kept; raises
        UnwritableTarget."""
        self.show(facts, text)
        if self.json is not None:
            write_json(self.json, {**self.settings, **figures})
