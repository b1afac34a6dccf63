"""From a training run to a bundle that `load_model` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InvalidParameter, MIDiffusionError
from ..images.intensity import HounsfieldIntensity, PercentileIntensity
from ..models.card import SCHEMA, ModelCard

_OWN = {
    "anatomy": "As in the training images",
    "field_of_view": "As in the training images, up to about 210 mm in the plane",
    "weights_licence": "As the training images allow",
    "non_commercial": False,
    "intended_use": "Research on image translation. Not for diagnosis or any clinical decision.",
    "limits": ["Trained by its user; nobody else has examined it."],
    "training": {},
}


def own_card(
    target: str, contrast: str, pixel_mm: float, backbone_sha256: str, described: Path | None
) -> ModelCard:
    """The card of a new model; size and hash of the weights are filled in when it is saved.

    Args:
        target: id of the model.
        contrast: the backbone's output that it shows.
        pixel_mm: of the model's grid.
        backbone_sha256: of the shared weights.
        described: JSON file with fields that replace the ones of a user's own model.

    Raises:
        InvalidParameter: the file or the id don't make a card.
    """
    modality = "CT" if contrast == "ct" else contrast.upper()
    intensity = HounsfieldIntensity() if contrast == "ct" else PercentileIntensity()
    values: dict[str, Any] = {
        **_OWN,
        "schema": SCHEMA,
        "id": target,
        "title": f"{target}, own images",
        "target_modality": modality,
        "contrast": contrast,
        "pixel_mm": pixel_mm,
        "intensity": intensity.to_dict(),
        "draws_samples": False,
        "sigma_data": 0.1,
        "validation": {},
        "seconds_per_slice": {},
        "weights_sha256": "0" * 64,
        "weights_bytes": 1,
        "backbone_sha256": backbone_sha256,
    }
    try:
        if described is not None:
            values |= json.loads(described.read_text(encoding="utf-8"))
        return ModelCard.from_dict(values)
    except (OSError, TypeError, ValueError, MIDiffusionError) as error:
        raise InvalidParameter(f"This makes no valid model card: {error}") from error
