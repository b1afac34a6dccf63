"""Choosing the target model: the selector, the card in words, the folder of further models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from midiffusion.models.card import ModelCard
from midiffusion.models.names import DEFAULT_MODEL
from midiffusion.models.registry import ModelEntry
from slicer.i18n import tr as _

from ..settings import ComputerSettings, TranslateParameters
from . import texts
from .interfaces import Models


class ModelChooser:
    """Keeps `modelSelector`, `cardLabel` and `modelFolderEdit` and the parameters' model in line.

    Args:
        ui: the widgets by name.
        models: lists the models there are.
        settings: where the folder is remembered.
        chooseFolder: asks the user for a folder, starting at the given one; empty if cancelled.
        changed: called after a change, with a sentence for the user, an empty one, or None if what
            was said last still holds.
    """

    def __init__(
        self,
        ui: Any,
        models: Models,
        settings: ComputerSettings,
        chooseFolder: Callable[[str], str],
        changed: Callable[[str | None], None],
    ) -> None:
        self.ui, self.models, self.settings = ui, models, settings
        self.chooseFolder, self._changed = chooseFolder, changed
        self.parameters: TranslateParameters | None = None
        self.entries: list[ModelEntry] = []
        self._filling = self._atLength = False
        ui.cardLabel.connect("linkActivated(QString)", lambda _link: self._onAbout())
        ui.modelFolderEdit.text = settings.modelFolder
        ui.modelSelector.connect("currentIndexChanged(int)", self._onChosen)
        ui.browseButton.connect("clicked(bool)", lambda _checked: self._onBrowse())
        ui.clearFolderButton.connect("clicked(bool)", lambda _checked: self.setFolder(""))
        ui.modelFolderEdit.connect(
            "editingFinished()", lambda: self.setFolder(ui.modelFolderEdit.text)
        )
        self._list()

    @property
    def entry(self) -> ModelEntry | None:
        """The model that the parameters name, if it is among those found."""
        wanted = self.parameters.model if self.parameters is not None else ""
        return next((entry for entry in self.entries if entry.id == wanted), None)

    @property
    def card(self) -> ModelCard | None:
        entry = self.entry
        return None if entry is None else entry.card

    @property
    def drawsSamples(self) -> bool:
        """Whether the chosen model has a denoiser."""
        return self.card is not None and self.card.draws_samples

    def setParameters(self, parameters: TranslateParameters | None) -> None:
        """The parameters to choose for; fresh ones get a usable model with a permissive licence,
        the default one if it has such a licence."""
        self.parameters = parameters
        if parameters is not None and not parameters.model and self.entries:
            parameters.model = min(self.entries, key=_preference).id

    def list(self) -> None:
        """Looks for models again: some may have been copied into the folder."""
        self._list()
        self._changed(None)

    def setFolder(self, folder: str) -> None:
        """The folder of further models; empty for none."""
        folder = folder.strip()
        if folder:
            try:
                # The worker has another working folder: a relative path would be another one there.
                folder = str(Path(folder).expanduser().absolute())
            except RuntimeError:  # `~` of a user who doesn't exist
                self.ui.modelFolderEdit.text = self.settings.modelFolder
                self._changed(_("There is no folder '{folder}'.").format(folder=folder))
                return
        self.ui.modelFolderEdit.text = folder
        if folder == self.settings.modelFolder:
            return
        self.settings.modelFolder = folder
        self._list()
        place = Path(folder).resolve()
        found = [entry.folder.resolve() for entry in self.entries]
        if folder and not any(place in (bundle, bundle.parent) for bundle in found):
            text = _("No model was found in '{folder}'. Choose another folder.")
            self._changed(text.format(folder=folder))
        else:
            self._changed("")

    def folderForNew(self) -> str:
        """The folder that a new model goes into, asked for if there is none yet; empty if the user
        names none."""
        if not self.settings.modelFolder and (folder := self.chooseFolder("")):
            self.ui.modelFolderEdit.text = self.settings.modelFolder = folder
            self._list()
            self._changed("")
        return self.settings.modelFolder

    def obstacle(self) -> str:
        """Why no translation can start with the chosen model; empty if one can."""
        wanted = self.parameters.model if self.parameters is not None else ""
        if not wanted:
            return _("No model was found. Choose a folder of models under Advanced.")
        if self.entry is None:
            return _(
                "The model '{id}' is not on this computer. Choose another target, or the folder "
                "it is in under Advanced."
            ).format(id=wanted)
        return self.entry.problem or ""

    def refresh(self) -> None:
        """Shows the chosen model."""
        ui, entry, card = self.ui, self.entry, self.card
        self._filling = True
        ui.modelSelector.currentIndex = -1 if entry is None else self.entries.index(entry)
        self._filling = False
        ui.cardLabel.text = "" if card is None else self._aboutText(card)
        ui.cardLabel.visible = card is not None

    def _aboutText(self, card: ModelCard) -> str:
        link = _("Less") if self._atLength else _("About this model")
        text = f'{texts.cardText(card)} <a href="#">{link}</a>'
        return text + texts.cardDetails(card) if self._atLength else text

    def _onAbout(self) -> None:
        self._atLength = not self._atLength
        self.refresh()

    def _list(self) -> None:
        self.entries = [*self.models.available(self.settings.modelFolder or None)]
        self._filling = True
        self.ui.modelSelector.clear()
        for entry in self.entries:
            title = entry.id if entry.card is None else texts.modelTitle(entry.card)
            self.ui.modelSelector.addItem(
                title if entry.problem is None else _("{title} (not usable)").format(title=title)
            )
        self._filling = False
        self.setParameters(self.parameters)

    def _onChosen(self, index: int) -> None:
        if self._filling or self.parameters is None or not 0 <= index < len(self.entries):
            return
        if self.entries[index].id != self.parameters.model:
            self.parameters.model = self.entries[index].id
            self._changed("")

    def _onBrowse(self) -> None:
        folder = self.chooseFolder(self.settings.modelFolder)
        if folder:
            self.setFolder(folder)


def _preference(entry: ModelEntry) -> tuple[bool, bool, bool, str]:
    """Order of preselection: usable, permissive licence, the default model, name."""
    restricted = entry.card is None or entry.card.non_commercial
    return (entry.problem is not None, restricted, entry.id != DEFAULT_MODEL, entry.id)
