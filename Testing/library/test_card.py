"""The card's schema: every field's absence and every wrong type is refused by the field's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from midiffusion.errors import InvalidCard
from midiffusion.models.card import ModelCard

# For every field, values it must refuse.
WRONG: dict[str, list[Any]] = {
    "schema": [1, "2", True, None],
    "id": ["", "With Space", "../up", 3],
    "title": ["", "  ", 3],
    "target_modality": [None, ""],
    "anatomy": [["head"], ""],
    "field_of_view": [[128, 128], ""],
    "pixel_mm": [0, -1.0, "1.8", True],
    "intensity": ["percentile", []],
    "contrast": ["t3", None],
    "draws_samples": [1, "yes"],
    "backbone_sha256": ["", "z" * 64],
    "sigma_data": [0.0, False],
    "training": ["some data"],
    "weights_licence": [""],
    "non_commercial": [0, "false", None],
    "intended_use": [""],
    "limits": ["none", [1], [""]],
    "validation": [[]],
    "seconds_per_slice": [1.0, {"cpu": 0}, {"cpu": "fast"}],
    "weights_sha256": ["", "ABC", "g" * 64, "A" * 64],
    "weights_bytes": [0, 1.5, "7"],
}


def write(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_valid_card_is_read_and_written_unchanged(tmp_path, card_values):
    card = ModelCard.read(write(tmp_path, card_values))
    assert json.loads(card.to_json()) == card_values


def test_every_field_has_wrong_values_here(card_values):
    assert set(WRONG) == set(card_values)


@pytest.mark.parametrize("field", WRONG)
def test_missing_field_is_named(tmp_path, card_values, field):
    del card_values[field]
    with pytest.raises(InvalidCard, match=f"'{field}' is missing"):
        ModelCard.read(write(tmp_path, card_values))


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_wrong_value_is_named(tmp_path, card_values, field, value):
    card_values[field] = value
    with pytest.raises(InvalidCard, match=f"'{field}' must be") as caught:
        ModelCard.read(write(tmp_path, card_values))
    assert "card.json" in str(caught.value)


def test_unknown_field_is_named(tmp_path, card_values):
    card_values["colour"] = "grey"
    with pytest.raises(InvalidCard, match="'colour' is not part of schema 2"):
        ModelCard.read(write(tmp_path, card_values))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "can't be read"),
        (b'{"pixel_mm": NaN}', "NaN"),
    ],
)
def test_file_that_is_no_card(tmp_path, text, reason):
    path = tmp_path / "card.json"
    path.write_bytes(text)
    with pytest.raises(InvalidCard, match=reason):
        ModelCard.read(path)


def test_file_that_is_missing(tmp_path):
    with pytest.raises(InvalidCard, match="does not exist"):
        ModelCard.read(tmp_path / "card.json")


def test_a_wrong_card_is_not_written(card_values):
    card_values["weights_sha256"] = ""
    with pytest.raises(InvalidCard, match="'weights_sha256'"):
        ModelCard(**card_values).to_json()
