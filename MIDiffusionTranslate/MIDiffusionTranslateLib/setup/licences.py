"""Consent to the licences of models, asked for once and remembered on this computer."""

from __future__ import annotations

from collections.abc import Callable

from midiffusion.models.card import ModelCard
from slicer.i18n import tr as _

from ..settings import ComputerSettings


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
        if not self._confirm(licenceQuestion(card)):
            return False
        self._settings.accept(card.id, card.weights_licence)
        return True


def licenceQuestion(card: ModelCard) -> str:
    return _(
        "The model '{title}' may be used for non-commercial research only.\n\n"
        "Licence of its weights: {licence}\n\n"
        "Its results are synthetic and not for diagnosis. Do you accept these terms?"
    ).format(title=card.title, licence=card.weights_licence)
