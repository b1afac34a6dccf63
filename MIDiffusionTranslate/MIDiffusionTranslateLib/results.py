"""What the worker computed, as named and attributed volumes of the scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from midiffusion.card import ModelCard

from .output import moveInto
from .scene import Layer, Place, addLayers
from .workerreport import WorkerResult


def addResult(
    place: Place, card: ModelCard, result: WorkerResult, output: Any = None
) -> tuple[Any, Any, Callable[[], Any] | None]:
    """Adds what the worker computed with the model of `card`.

    output: a volume that is to receive the result, None for a new one. Returns the nodes of the
    result and of its uncertainty (or None), and what adds the volume of its agreement with the
    source (or None).
    """
    attributes = _attributes(place, card, result.provenance)
    # What a comparison takes a result by: the other layers are none.
    image = {**attributes, "intensity": json.dumps(card.intensity)}
    target = card.target_modality.removeprefix("MR ")
    about = (
        f"Synthetic {target} computed from '{place.sourceName}' by MIDiffusion "
        f"{attributes['version']} (model {card.id}). Research use only, not for diagnosis."
    )
    layers = [Layer(f"{place.sourceName} [synthetic {target}]", result.data, about, image)]
    if result.uncertainty is not None:
        name = f"{place.sourceName} [synthetic {target} standard deviation]"
        about = f"Standard deviation over {attributes['samples']} samples. {about}"
        layers.append(Layer(name, result.uncertainty, about, attributes))
    agreement = None
    if result.agreement is not None:
        name = f"{place.sourceName} [agreement with synthetic {target}]"
        what = "Local structure shared with the source, from 0 (chance) to 1; no measure of truth."
        agreement = Layer(name, result.agreement, f"{what} {about}", attributes, (0.0, 1.0))
    nodes = addLayers(place, layers)
    return (
        moveInto(nodes[0], output),
        nodes[1] if len(nodes) > 1 else None,
        None if agreement is None else lambda: addLayers(place, [agreement])[0],
    )


# Of the provenance; detailMm is None where no detail was taken, sourceNoise of a CT.
_USED = ("version", "steps", "seed", "samples", "sampler", "detailMm", "sourceNoise", "gain")


def _attributes(place: Place, card: ModelCard, provenance: dict[str, Any]) -> dict[str, str]:
    """What a result says of its origin."""
    used = {key: str(provenance[key]) for key in _USED}
    return {
        "model": card.id,
        "weightsSHA256": card.weights_sha256,
        **used,
        "modality": card.target_modality,
        "source": place.sourceName,
        "synthetic": "1",
    }
