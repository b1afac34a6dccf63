"""What the panel needs of jobs, logic, models and packages, as protocols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from midiffusion.errors import MIDiffusionError
from midiffusion.models.registry import ModelEntry


class Job(Protocol):
    """A translation under way (worker.translation.TranslationJob)."""

    state: str
    node: Any
    errorMapNode: Any
    deviationNode: Any
    typicalError: float | None
    provenance: dict[str, Any]
    error: MIDiffusionError | None
    warnings: list[str]
    elapsed_s: float

    @property
    def log(self) -> Iterable[str]: ...

    @property
    def finished(self) -> bool: ...

    def cancel(self) -> None: ...

    def abandon(self) -> None: ...


class Task(Protocol):
    """Another task of the worker under way (worker.job.WorkerJob)."""

    state: str
    result: Any
    error: MIDiffusionError | None
    elapsed_s: float
    silence_s: float

    @property
    def log(self) -> Iterable[str]: ...

    @property
    def finished(self) -> bool: ...

    def cancel(self) -> None: ...

    def abandon(self) -> None: ...

    def takeFile(self, name: str) -> np.ndarray: ...


class Logic(Protocol):
    """Starts jobs and sees to it that they are polled (MIDiffusionTranslateLogic)."""

    def start(self, sourceNode: Any, **arguments: Any) -> Job: ...

    def startAll(self, sources: Any, *arguments: Any, **options: Any) -> Any: ...

    def begin(self, task: str, parameters: dict[str, Any], **arguments: Any) -> Task: ...


class Models(Protocol):
    """Lists models (midiffusion.models.registry)."""

    def available(self, model_folder: str | None = None) -> Sequence[ModelEntry]: ...


class Packages(Protocol):
    """Says what is not installed, and installs it (setup.packages.Dependencies)."""

    def missing(self) -> list[str]: ...

    def offer(self) -> str: ...

    def install(self) -> None: ...
