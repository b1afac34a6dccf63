"""Consent to the licences of models, asked for once and remembered on this computer."""

from __future__ import annotations

from collections.abc import Callable

from midiffusion.card import ModelCard

from . import wording
from .parameters import ComputerSettings


class Licences:
    """Asks for consent where it is missing: for the panel and the console alike.

    Args:
        settings: remembers the consent.
        confirm: asks the user a yes/no question.
    """

    def __init__(self, settings: ComputerSettings, confirm: Callable[[str], bool]) -> None:
        self._settings, self._confirm = settings, confirm

    def accepted(self, card: ModelCard) -> bool:
        """Whether the model may be used; a changed licence is asked for again."""
        if self._settings.hasAccepted(card.id, card.weights_licence):
            return True
        if not self._confirm(wording.licenceQuestion(card)):
            return False
        self._settings.accept(card.id, card.weights_licence)
        return True
