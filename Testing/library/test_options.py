"""Options of a translation: defaults, ranges, JSON."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from midiffusion.errors import InvalidParameter
from midiffusion.pipeline.options import TranslationOptions


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"views": 0}, "views"),
        ({"views": 5}, "views"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"steps": 2.0}, "steps"),
        ({"samples": 0, "steps": 4}, "samples"),
        ({"samples": 2}, "samples"),
        ({"seed": -1}, "seed"),
        ({"source": "pet"}, "source"),
    ],
)
def test_value_out_of_range_is_named(changes, word):
    with pytest.raises(InvalidParameter, match=word):
        TranslationOptions(**changes)


def test_options_survive_json():
    options = TranslationOptions(views=2, steps=8, samples=3, seed=7, without=("detail",))
    values = {**asdict(options), "without": ["detail"], "model": "flair", "sampler": None}
    assert TranslationOptions.from_dict(values) == options
