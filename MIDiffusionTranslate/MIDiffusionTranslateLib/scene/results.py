"""Results of the worker as named and attributed volumes of the scene."""

from __future__ import annotations

import json
from typing import Any

import slicer
from midiffusion.errors import InvalidParameter
from midiffusion.models.card import ModelCard

from ..worker.events import WorkerResult
from .volumes import Layer, Place, addLayers


def addResult(
    place: Place, card: ModelCard, result: WorkerResult, output: Any = None, errorMap: bool = False
) -> tuple[Any, Any, Any]:
    """Adds the worker's result with the model of `card`: all of it or nothing.

    output: a volume that receives the result, None for a new one. errorMap: whether to add the
    error map. Returns the nodes of the result, of the error map and of the deviation, the last two
    None where there is none.
    """
    attributes = _attributes(place, card, result.provenance)
    # A comparison takes only volumes with this attribute as results.
    image = {**attributes, "intensity": json.dumps(card.intensity)}
    name = f"Synthetic {modality(card)} of {place.sourceName}"
    about = (
        f"{name}, computed by MIDiffusion {attributes['version']} (model {card.id}). "
        "Research use only, not for diagnosis."
    )
    if card.non_commercial:
        about += f" Non-commercial use only ({card.weights_licence})."
    layers = [Layer(name, result.data, about, image)]
    unit = "HU" if card.contrast == "ct" else "1000 is the brightest tissue"
    if result.error_map is not None and errorMap:
        what = f"Expected error ({unit}): how far several views of the source disagree."
        layers.append(
            Layer(f"Error map of s{name[1:]}", result.error_map, f"{what} {about}", attributes)
        )
    if result.deviation is not None:
        what = f"Standard deviation over {attributes['samples']} samples ({unit})."
        layers.append(
            Layer(f"Deviation of s{name[1:]}", result.deviation, f"{what} {about}", attributes)
        )
    nodes = addLayers(place, layers)
    further = iter(nodes[1:])
    error = next(further) if result.error_map is not None and errorMap else None
    return moveInto(nodes[0], output), error, next(further, None)


def modality(card: ModelCard) -> str:
    """The target in one word, for names: "FLAIR", not "MR FLAIR"."""
    return card.target_modality.removeprefix("MR ")


def _attributes(place: Place, card: ModelCard, provenance: dict[str, Any]) -> dict[str, str]:
    """The provenance as texts, with the source's name and the licence."""
    values: dict[str, Any] = {
        **provenance,
        "modality": card.target_modality,
        "licence": card.weights_licence,
        "nonCommercial": int(card.non_commercial),
        "source": place.sourceName,
        "synthetic": 1,
    }
    return {
        key: json.dumps(value) if isinstance(value, (list, dict)) else str(value)
        for key, value in values.items()
        if value is not None
    }


def checkOutput(output: Any, source: Any) -> None:
    """Raises InvalidParameter."""
    if output is None:
        return
    if output is source:
        raise InvalidParameter("The output can't be the source itself: choose another volume.")
    if output.GetClassName() != "vtkMRMLScalarVolumeNode":
        raise InvalidParameter(
            f"The output '{output.GetName()}' is not a scalar volume: choose another, or none for "
            "a new one."
        )


def moveInto(result: Any, target: Any) -> Any:
    """Gives `target` what `result` holds, and removes `result`; returns the volume that has it.

    `target` keeps its name, its place in the scene and whatever refers to it. A target that has
    left the scene in the meantime is not used: `result` then stays.
    """
    scene = result.GetScene()
    if target is None or target.GetScene() is not scene:
        return result
    with slicer.util.NodeModify(target):
        target.CopyOrientation(result)
        target.SetAndObserveImageData(result.GetImageData())
        target.SetAndObserveTransformNodeID(result.GetTransformNodeID())
        target.SetDescription(result.GetDescription())
        # The identity of the images it held before is not that of the result.
        target.RemoveAttribute("DICOM.instanceUIDs")
        for name in result.GetAttributeNames():
            target.SetAttribute(name, result.GetAttribute(name))
    if target.GetDisplayNode() is None:
        target.CreateDefaultDisplayNodes()
    shown, wanted = target.GetDisplayNode(), result.GetDisplayNode()
    if shown is not None and wanted is not None:
        shown.SetAutoWindowLevel(False)
        shown.SetWindowLevel(wanted.GetWindow(), wanted.GetLevel())
    for node in (wanted, result.GetStorageNode(), result):
        if node is not None:
            scene.RemoveNode(node)
    return target
