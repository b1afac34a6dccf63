"""The model card: what a bundle says about its weights (`card.json`).

The schema is the dataclass below, checked field by field, so that a card which breaks it is refused
with the name of the field and not with a failure deep inside the sampler. Needs no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InvalidCard
from .names import CONTRASTS

SCHEMA = 2


@dataclass(frozen=True)
class ModelCard:
    """Everything a person needs to know of one target model.

    Units: `pixel_mm` in millimetres, `sigma_data` (of the residual) in model units (air 0; MR:
    99.5th percentile inside the head 1; CT: (HU + 1000) / 3060), `seconds_per_slice` maps a
    device's name to measured seconds of a default translation. `contrast` is the backbone's output
    that the model shows, `draws_samples` whether its denoiser is trained. `intensity` holds the
    arguments of `intensity.intensity_map`. `backbone_sha256` names the shared file of weights.
    """

    id: str
    title: str
    target_modality: str
    contrast: str
    anatomy: str
    field_of_view: str
    pixel_mm: float
    intensity: dict[str, Any]
    draws_samples: bool
    sigma_data: float
    training: dict[str, Any]
    weights_licence: str
    non_commercial: bool
    intended_use: str
    limits: list[str]
    validation: dict[str, Any]
    seconds_per_slice: dict[str, float]
    weights_sha256: str
    weights_bytes: int
    backbone_sha256: str
    schema: int = SCHEMA

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        """The card in the JSON file `path`. Raises InvalidCard naming the file and the field."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InvalidCard(f"The model card {path} does not exist.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidCard(f"The model card {path} can't be read: {error}.") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, origin: object) -> ModelCard:
        """The card with this JSON text. Raises InvalidCard naming its `origin` and the field."""
        try:
            values = json.loads(text, parse_constant=_refuse_constant)
        except ValueError as error:
            raise InvalidCard(f"The model card {origin} is not valid JSON: {error}.") from error
        try:
            return cls.from_dict(values)
        except InvalidCard as error:
            raise InvalidCard(f"The model card {origin} can't be used: {error}") from None

    @classmethod
    def from_dict(cls, values: object) -> ModelCard:
        """The checked card with these fields. Raises InvalidCard naming the first wrong one."""
        if not isinstance(values, dict):
            raise InvalidCard("it must be a JSON object.")
        if "schema" not in values:
            raise InvalidCard("field 'schema' is missing.")
        # The schema number first: a card of another schema may well have other fields.
        _check("schema", values["schema"])
        for name in _CHECKS:
            if name not in values:
                raise InvalidCard(f"field '{name}' is missing.")
        for name, value in values.items():
            if name not in _CHECKS:
                raise InvalidCard(f"field '{name}' is not part of schema {SCHEMA}.")
            _check(name, value)
        return cls(**values)

    def to_json(self) -> str:
        """The card as the text of `card.json`. Raises InvalidCard rather than write a wrong one."""
        values = asdict(self)
        ModelCard.from_dict(values)
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value > 0


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(_text(item) for item in value)


def _seconds(value: object) -> bool:
    return isinstance(value, dict) and all(_text(k) and _positive(v) for k, v in value.items())


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_TEXT = (_text, "a text that is not empty")
_POSITIVE = (_positive, "a number greater than 0")
_COUNT = (_count, "a whole number of at least 1")
_TABLE = (_table, "an object")
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_SHA256 = (_matches(r"[0-9a-f]{64}"), "64 hexadecimal digits in lower case")
_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "schema": (
        lambda value: value == SCHEMA and not isinstance(value, bool),
        f"{SCHEMA}, the version this release reads",
    ),
    "id": (_matches(r"[a-z0-9][a-z0-9._-]*"), "lower-case letters, digits, '.', '_' and '-'"),
    "title": _TEXT,
    "target_modality": _TEXT,
    "contrast": (lambda value: value in CONTRASTS, "one of " + ", ".join(CONTRASTS)),
    "anatomy": _TEXT,
    "field_of_view": _TEXT,
    "pixel_mm": _POSITIVE,
    "intensity": _TABLE,
    "draws_samples": _FLAG,
    "sigma_data": _POSITIVE,
    "training": _TABLE,
    "weights_licence": _TEXT,
    "non_commercial": _FLAG,
    "intended_use": _TEXT,
    "limits": (_texts, "a list of texts"),
    "validation": _TABLE,
    "seconds_per_slice": (_seconds, "an object of seconds greater than 0 by device name"),
    "weights_sha256": _SHA256,
    "weights_bytes": _COUNT,
    "backbone_sha256": _SHA256,
}
assert list(_CHECKS) == ["schema", *(f.name for f in fields(ModelCard) if f.name != "schema")]


def _check(name: str, value: object) -> None:
    accepts, expected = _CHECKS[name]
    if not accepts(value):
        raise InvalidCard(f"field '{name}' must be {expected}; it is {_shown(value)}.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
