"""Models known by id: the bundles of the extension and of a folder of the user's.

A bundle is a folder with `card.json` and `weights.safetensors`. Listing, finding and verifying
bundles needs no torch.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorruptModel, InvalidCard, UnknownModel
from .card import ModelCard

CARD = "card.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class ModelEntry:
    """One bundle. `card` is None where it can't be read; `problem` then says why in a sentence."""

    id: str
    folder: Path
    card: ModelCard | None
    problem: str | None

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


def shipped_folder() -> Path:
    """Where the models that come with the code are."""
    here = Path(__file__).resolve().parents[1]
    # A wheel carries the bundles inside the package (pyproject.toml); the source tree and an
    # installed extension have them beside it.
    packaged = here / "bundles"
    return packaged if packaged.is_dir() else here.parent / "Resources" / "Models"


def available(model_folder: str | Path | None = None) -> list[ModelEntry]:
    """Every bundle shipped and in `model_folder` (a folder of bundles, or one bundle), by id.

    A model of the given folder stands in for a shipped one of the same id: whoever names a folder
    means what is in it.
    """
    entries = {entry.id: entry for entry in _bundles(shipped_folder())}
    if model_folder is not None:
        entries.update({entry.id: entry for entry in _bundles(Path(model_folder).expanduser())})
    return [entries[key] for key in sorted(entries)]


def find(id_or_folder: str | Path, model_folder: str | Path | None = None) -> ModelEntry:
    """The bundle with this id, or in this folder.

    The entry's card is always readable. Raises UnknownModel (naming the ids there are) and
    InvalidCard.
    """
    entries = available(model_folder)
    entry = next((entry for entry in entries if entry.id == str(id_or_folder)), None)
    if entry is None and os.path.isdir(Path(id_or_folder).expanduser()):
        entry = _read(Path(id_or_folder).expanduser())
    if entry is None:
        ids = ", ".join(entry.id for entry in entries) or "none"
        raise UnknownModel(f"There is no model '{id_or_folder}'; the models found are: {ids}.")
    if entry.card is None:
        raise InvalidCard(entry.problem)
    return entry


def verify(entry: ModelEntry) -> None:
    """Raises CorruptModel unless the weights have the size and the SHA-256 that the card states."""
    if entry.card is None:
        raise InvalidCard(entry.problem)
    again = "Get the model again."
    try:
        size = entry.weights.stat().st_size
        if size != entry.card.weights_bytes:
            raise CorruptModel(
                f"The weights of model '{entry.id}' have {size} bytes, not the "
                f"{entry.card.weights_bytes} its card states. {again}"
            )
        digest = sha256(entry.weights)
    except OSError as error:
        raise CorruptModel(
            f"The weights of model '{entry.id}' can't be read ({error}). {again}"
        ) from error
    if digest != entry.card.weights_sha256:
        raise CorruptModel(
            f"The weights of model '{entry.id}' are not its card's (SHA-256 differs). {again}"
        )


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _bundles(folder: Path) -> list[ModelEntry]:
    if (folder / CARD).is_file():
        return [_read(folder)]
    if not folder.is_dir():
        return []
    found = (path.parent for path in sorted(folder.glob(f"*/{CARD}")))
    return [_read(place) for place in found if not place.name.startswith(".")]  # being made


def _read(folder: Path) -> ModelEntry:
    try:
        card = ModelCard.read(folder / CARD)
    except InvalidCard as error:
        return ModelEntry(folder.resolve().name, folder, None, str(error))
    problem = None if (folder / WEIGHTS).is_file() else f"{folder / WEIGHTS} does not exist."
    return ModelEntry(card.id, folder, card, problem)
