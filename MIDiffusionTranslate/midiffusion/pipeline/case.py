"""What the steps of a translation share: the source, the model, and what each step adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..images.grid import SliceGrid
from ..images.volume import Volume
from ..runtime.batching import SliceBatches
from ..runtime.progress import Reporter
from .options import TranslationOptions

if TYPE_CHECKING:
    from .target import TargetModel


@dataclass(frozen=True, eq=False)
class Stack:
    """The source cut into slices in one plane.

    plane: "axial", "coronal" or "sagittal". grid: its geometry. slices: [S, 1, H, W], model units,
    air 0, on the device. gap: distance of neighbouring slices, pixels.
    """

    plane: str
    grid: SliceGrid
    slices: Tensor
    gap: float


@dataclass(frozen=True)
class View:
    """One rendering of the source.

    stack: its index in `Case.stacks`. exponent: of the intensities. mirrored: whether the mirror
    image is drawn as well.
    """

    stack: int
    exponent: float = 1.0
    mirrored: bool = False


@dataclass(frozen=True)
class StepRecord:
    """What a step did: its name, its parameters and its figures (JSON types)."""

    name: str
    parameters: dict[str, Any]
    figures: dict[str, Any]


@dataclass(eq=False)
class Case:
    """One translation on its way through the pipeline.

    units: the source [k, j, i] in model units, float32. result, deviation, spread: [k, j, i], model
    units until the step `units`. Arrays that later steps don't need are released to None. drawn:
    where several targets share a backbone, its outputs [S, 6, H, W] by backbone and view.
    """

    source: Volume
    model: TargetModel
    options: TranslationOptions
    device: torch.device
    reporter: Reporter
    drawn: dict[tuple[str, View], Tensor] | None = None
    units: np.ndarray | None = None
    source_is_ct: bool = False
    stacks: list[Stack] | None = None
    views: tuple[View, ...] = ()
    look: Tensor | None = None
    result: np.ndarray | None = None
    deviation: np.ndarray | None = None
    spread: np.ndarray | None = None
    warning: str | None = None
    records: list[StepRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batches = SliceBatches(self.device)

    @property
    def pixel_mm(self) -> float:
        """In-plane pixel size of the model."""
        return self.model.card.pixel_mm
