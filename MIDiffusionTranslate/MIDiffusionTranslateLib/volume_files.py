"""Folders that users name: looked at without ever failing."""

from __future__ import annotations

import os
from pathlib import Path

from midiffusion.images.formats import volume_files


def existingFolder(name: str | Path) -> Path | None:
    """The folder that is meant, absolute; None where there is none that can be read."""
    try:
        place = Path(name).expanduser().absolute()
        readable = bool(str(name)) and place.is_dir() and os.access(place, os.R_OK | os.X_OK)
    except (OSError, RuntimeError):  # the second: `~` of a user who doesn't exist
        return None
    return place if readable else None


def volumeFiles(folder: str | Path) -> list[Path]:
    """The volumes in a folder, by name, without hidden files and results; none where there is no
    such folder."""
    place = existingFolder(folder)
    if place is None:
        return []
    return volume_files(place)
