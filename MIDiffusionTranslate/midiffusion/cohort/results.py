"""Results of a cohort: the volume, its error map, and a sidecar that says how they came about.

The sidecar is written last. A result counts as finished only if its sidecar names the same source,
model and options, and the digests of the files that are there.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.card import ModelCard
from ..pipeline.options import TranslationOptions

if TYPE_CHECKING:
    from ..pipeline.translate import Translation

SIDECAR, ERROR_MAP = ".json", "_errormap.nii.gz"


def beside(result: Path, suffix: str) -> Path:
    """Another file of the same result: `SIDECAR` or `ERROR_MAP`."""
    return result.with_name(result.name.removesuffix(".nii.gz") + suffix)


def digest(place: Path) -> str:
    """SHA-256 of a file, or of the files of a folder by name. Raises OSError."""
    made = hashlib.sha256()
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    for path in files:
        if place.is_dir():
            made.update(path.relative_to(place).as_posix().encode("utf-8", "surrogateescape"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                made.update(block)
    return made.hexdigest()


def request(source_sha256: str, card: ModelCard, options: TranslationOptions) -> dict[str, Any]:
    """What a result depends on, as the sidecar holds it."""
    chosen = asdict(options)
    chosen.pop("device")  # changes nothing but the last digits
    return {
        "SourceSHA256": source_sha256,
        "Model": card.id,
        "ModelSHA256": card.weights_sha256,
        "BackboneSHA256": card.backbone_sha256,
        "Options": {**chosen, "without": list(options.without)},
    }


def warnings_of(made: Translation) -> list[str]:
    warning = made.provenance["warning"]
    return [] if warning is None else [warning]


def unit_of(made: Translation) -> str:
    """HU; for MR "arbitrary", with the 99.5th percentile inside the head nominally at 1000."""
    return "HU" if "CT" in made.volume.modality.upper() else "arbitrary"


def figures_of(made: Translation) -> dict[str, float | None]:
    """familiarity_distance: from training heads; expected_error: median inside the head, HU, or for
    MR of 1000; seconds."""
    steps = {record["name"]: record["figures"] for record in made.provenance["pipeline"]}
    error = None
    if made.error_map is not None and (made.error_map.data > 0).any():
        error = float(np.median(made.error_map.data[made.error_map.data > 0]))
    return {
        "familiarity_distance": steps.get("familiarity", {}).get("distance"),
        "expected_error": None if error is None else round(error, 2),
        "seconds": made.provenance["seconds"],
    }


def save_result(
    result: Path,
    made: Translation,
    source: Path,
    requested: dict[str, Any],
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a result with its error map and sidecar; returns the sidecar.

    requested: see `request`. extra: more fields for the sidecar. Raises UnwritableTarget, DiskFull.
    """
    from ..images import io

    result.parent.mkdir(parents=True, exist_ok=True)
    sidecar_path = beside(result, SIDECAR)
    sidecar_path.unlink(missing_ok=True)  # must not describe other files
    files = [(result, made.volume)]
    if made.error_map is not None:
        files.append((beside(result, ERROR_MAP), made.error_map))
    io.write_volumes(files, made.attributes(source.name))
    sidecar = {
        "Synthetic": True,
        "Sources": [str(source)],
        **requested,
        "Warnings": warnings_of(made),
        "Figures": figures_of(made),
        "Units": unit_of(made),
        "Files": {path.name: digest(path) for path, _ in files},
        "Provenance": made.provenance,
        **(extra or {}),
    }
    part = sidecar_path.with_name(f".{sidecar_path.name}.part")
    try:
        part.write_text(json.dumps(sidecar, indent=1) + "\n", encoding="utf-8")
        os.replace(part, sidecar_path)
    except OSError as failure:
        part.unlink(missing_ok=True)
        raise io.unwritable(sidecar_path, failure) from failure
    return sidecar


def read_sidecar(result: Path) -> dict[str, Any] | None:
    """The sidecar of a result; None where there is none that can be read."""
    try:
        found = json.loads(beside(result, SIDECAR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_finished(result: Path, requested: dict[str, Any]) -> bool:
    """Whether a result is there, whole, and made from the same source, model and options."""
    sidecar = read_sidecar(result)
    if sidecar is None or any(sidecar.get(key) != value for key, value in requested.items()):
        return False
    files = sidecar.get("Files")
    if not isinstance(files, dict) or result.name not in files:
        return False
    try:
        return all(digest(result.with_name(name)) == sha for name, sha in files.items())
    except OSError:
        return False
