"""docs/models says what the cards of the shipped models say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from midiffusion import registry


@pytest.fixture(scope="module")
def maker(script):
    return script("make_model_cards")


def test_every_shipped_model_has_its_document(maker):
    """Otherwise: make model-cards"""
    cards = [entry.card for entry in registry.available()]
    assert {path.stem for path in maker.DOCUMENTS.glob("*.md")} == {card.id for card in cards}
    for card in cards:
        text = (maker.DOCUMENTS / f"{card.id}.md").read_text("utf-8")
        assert text == maker.document(card)
        assert all(limit in text for limit in card.limits)


def test_a_changed_figure_changes_the_document(maker):
    card = registry.find("flair").card
    figures = {"what": "a set", "heads": {"ours": {"ssim": [0.5, 0.4, 0.6]}}}
    text = maker.document(replace(card, validation=figures))
    assert "| ours | 0.500 (0.400 to 0.600) |" in text
    assert text != maker.document(replace(card, validation={}))
