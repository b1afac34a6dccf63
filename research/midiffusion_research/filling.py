"""Filling the table: every method in one direction, each cell taken from the store or computed."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midiffusion.errors import InvalidParameter
from midiffusion.models.registry import ModelEntry
from midiffusion.pipeline.options import TranslationOptions

from .baselines import Budget, Method
from .baselines.registry import METHODS, PAIRED_SHARE, PAIRED_SHARES, Entry, Options
from .cells import Cell, CellStore, Ingredients, Outputs, data_digest, digest
from .codeversion import code_version
from .datasets import Dataset, Subject, dataset
from .report import say
from .scoring import Scoring
from .targetmodel import existing_model, trained_model

if TYPE_CHECKING:
    from .frechet import FeatureNetwork

# What of a card decides a translation, beside the weights.
_CARD = ("contrast", "pixel_mm", "intensity", "draws_samples", "sigma_data", "backbone_sha256")


@dataclass(frozen=True)
class Request:
    """What one table is asked to hold, apart from directions and methods.

    folder: of the collection, or round it. training_folder: of the training collection, None if it
    is there too. out: for cells and models. subjects: how many of either part at most. slices: how
    many of each that is scored, None for all. device: of torch. device_text: the same for people.
    budget: seconds for each that learns. size: of the slices that learners work on. model,
    model_folder: bundle by id or folder, None for that of the target, and a further folder of
    bundles. network: of the Frechet distance, if there is one.
    """

    data: Dataset
    folder: Path
    training_folder: Path | None
    out: Path
    subjects: int | None
    slices: int | None
    device: str
    device_text: str
    budget: float
    size: int
    seed: int
    model: str | None
    model_folder: Path | None
    sampling: TranslationOptions
    network: FeatureNetwork | None


class Filling:
    """One direction of a request: its subjects, and a cell for each method asked of it."""

    def __init__(self, request: Request, direction: str) -> None:
        self._request = request
        self._direction = direction
        self._store = CellStore(request.out / "cells")
        self._kept: dict[str, Ingredients] = {}
        self._loaded: dict[str, list[Subject]] = {}
        data = request.data
        subjects = data.load(request.folder, direction, "val", request.subjects)
        if request.slices is not None:
            subjects = [subject.some(request.slices) for subject in subjects]
        self.subjects = subjects
        self._target = direction.split(":")[1].upper()
        self._scoring = Scoring(self.subjects, self._target, data.sizes, request.network)

    def cell(self, name: str) -> Cell:
        """The method's row, computed unless it is kept; raises as its parts do."""
        entry, options, model = METHODS[name], self._options, None
        if entry.bundle:
            model = self._model
            options = replace(options, model=str(model.folder))
        method = entry(options)
        ingredients = self._ingredients(name, entry, type(method).__module__, model)
        self._kept[name] = ingredients
        found = self._store.find(ingredients, self._scoring.version)
        if found is not None and found[1]:
            say(f"{self._direction} {name}: kept from an earlier run", last=True)
            return found[0]
        if found is not None:
            cell = found[0]
            outputs: Outputs = self._store.outputs(ingredients, self.subjects)
        else:
            cell = Cell(name, method.name, model=None if model is None else _described(model))
            outputs = self._computed(cell, method, entry)
            self._store.keep_outputs(ingredients, outputs)
        self._scoring.score(cell, outputs)
        self._store.keep(ingredients, self._scoring.version, cell)
        return cell

    def _computed(self, cell: Cell, method: Method, entry: Entry) -> Outputs:
        """Fits the method and translates all subjects; what that took goes into the cell."""
        title, budget = f"{self._direction} {cell.name}", self._request.budget
        if entry.needs != "nothing":
            train = self._training(entry.needs == "pairs")
            if entry.learns:
                say(f"{title}: learning, {budget:g} s", last=True)
            started = time.monotonic()
            method.fit(train, Budget(seconds=budget))
            cell.learning_seconds = time.monotonic() - started
        started, outputs = time.monotonic(), {}
        for number, subject in enumerate(self.subjects, start=1):
            outputs[subject.id] = method.translate(subject.source)
            cell.seconds = time.monotonic() - started
            count = len(self.subjects)
            say(
                f"{title}: {number} of {count} subjects, {cell.seconds:.0f} s", last=number == count
            )
        cell.label = method.name  # what it learnt may be part of it
        cell.steps = getattr(method, "steps", None) if entry.learns else None
        return outputs

    def scored(self, name: str, outputs: Outputs) -> Cell:
        """A row for outputs that were made elsewhere; nothing is kept."""
        cell = Cell(name, name)
        self._scoring.score(cell, outputs)
        return cell

    def outputs(self, name: str, subjects: Sequence[Subject]) -> Outputs:
        """What a method whose cell was asked for gave back for these subjects."""
        return self._store.outputs(self._kept[name], subjects)

    def _ingredients(
        self, name: str, entry: Entry, module: str, model: ModelEntry | None
    ) -> dict[str, Any]:
        request = self._request
        found: dict[str, Any] = {
            "dataset": request.data.name,
            "direction": self._direction,
            "method": name,
            "subjects": self._digest,
            "code": code_version(module),
        }
        if entry.needs != "nothing":
            found["training"] = data_digest(self._training(entry.needs == "pairs"))
        if entry.learns:
            from .baselines.learning import shipped_settings

            learning = ("seed", "size", "width", "paired_share")
            found |= {key: getattr(self._options, key) for key in learning}
            found["shipped"] = digest(shipped_settings(self._target))
            # The device decides how far it gets in that time.
            found |= {"budget": request.budget, "device": request.device_text}
        if model is not None and model.card is not None:
            card = asdict(model.card)
            found["weights"] = model.card.weights_sha256
            found["card"] = digest({key: card[key] for key in _CARD})
            found["sampling"] = asdict(request.sampling) | {"device": request.device.split(":")[0]}
        return found

    @functools.cached_property
    def _options(self) -> Options:
        request = self._request
        return Options(
            device=request.device,
            seed=request.seed,
            size=request.size,
            # A CPU gets nowhere with the whole networks in any budget; the row's name tells.
            width=1.0 if request.device.startswith("cuda") else Options.width,
            paired_share=PAIRED_SHARES.get(request.data.name, PAIRED_SHARE),
            sampling=request.sampling,
        )

    @functools.cached_property
    def _digest(self) -> str:
        return data_digest(self.subjects)

    def _training(self, pairs: bool) -> list[Subject]:
        direction = training_direction(self._request.data, self._direction, pairs)
        if direction not in self._loaded:
            self._loaded[direction] = self._load(direction)
        return self._loaded[direction]

    def _load(self, direction: str) -> list[Subject]:
        request = self._request
        source = dataset(request.data.training)
        folder = request.training_folder
        if folder is None:
            inside = (request.folder / source.name.replace("-", "_")).is_dir()
            beside = source.name != request.data.name and not inside
            folder = request.folder.parent if beside else request.folder
        return source.load(folder, direction, "train", request.subjects)

    @functools.cached_property
    def _model(self) -> ModelEntry:
        request, target = self._request, self._direction.split(":")[1]
        found = existing_model(request.data, target, request.model, request.model_folder)
        if found is not None:
            return found
        return trained_model(
            request.data,
            target,
            self._training(pairs=False),
            seconds=request.budget,
            size=request.size,
            device=request.device,
            start=request.model_folder,
            folder=request.out / "models",
        )


def training_direction(data: Dataset, direction: str, pairs: bool) -> str:
    """The direction of the training collection to learn from: the same one or, where only the
    target counts, another with the same target. Raises InvalidParameter if there is none."""
    source, target = dataset(data.training), direction.split(":")[1]
    if direction in source.directions:
        return direction
    if pairs:
        raise InvalidParameter(f"{source.name} has no pairs {direction} to learn from.")
    same = [found for found in source.directions if found.endswith(f":{target}")]
    if not same:
        raise InvalidParameter(f"{source.name} has no {target.upper()} to learn from.")
    return same[0]


def why_not(request: Request, name: str, direction: str) -> str | None:
    """Why a method can't be had for a direction, or None if it can."""
    entry, target = METHODS[name], direction.split(":")[1]
    try:
        if entry.needs != "nothing":
            training_direction(request.data, direction, entry.needs == "pairs")
        if entry.bundle:
            known = existing_model(request.data, target, request.model, request.model_folder)
            if known is None:  # it will have to be trained
                training_direction(request.data, direction, pairs=False)
    except InvalidParameter as error:
        return str(error)
    return None


def _described(model: ModelEntry) -> str:
    assert model.card is not None
    data = model.card.training.get("data", "not stated")
    return f"model {model.id}, weights {model.card.weights_sha256[:8]}, trained on: {data}"
