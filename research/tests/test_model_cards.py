"""docs/models says what the cards of the shipped models say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from midiffusion.models import registry
from midiffusion_research import model_cards


@pytest.fixture(scope="module")
def maker():
    return model_cards


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
    figures = {"data": "a set", "ssim": 0.512}
    text = maker.document(replace(card, validation=figures))
    assert "a set." in text and "| SSIM in the head | 0.512 |" in text
    assert text != maker.document(replace(card, validation={}))
