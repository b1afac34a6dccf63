"""Volumes out of the scene, results into it. Main thread only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from midiffusion.errors import InvalidVolume
from midiffusion.images.volume import Volume
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

ATTRIBUTE_PREFIX = "MIDiffusion."


def volumeFromNode(node: Any) -> Volume:
    """The values (a copy) and the geometry of a scalar volume node, checked.

    ijkToRAS is the node's own: parent transforms stay out of it. Raises InvalidVolume.
    """
    if node is None:
        raise InvalidVolume("No source volume is chosen: choose a scalar volume.")
    if node.GetScene() is None:
        raise InvalidVolume(f"'{node.GetName()}' is in no scene: add it to the scene first.")
    if not node.IsA("vtkMRMLVolumeNode"):
        raise InvalidVolume(f"'{node.GetName()}' is not a volume: choose a scalar volume.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InvalidVolume(
            f"'{node.GetName()}' is a label map: choose the scalar volume it was drawn on."
        )
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise InvalidVolume(f"'{node.GetName()}' is an empty volume: load an image into it first.")
    if not node.IsA("vtkMRMLScalarVolumeNode") or image.GetNumberOfScalarComponents() != 1:
        raise InvalidVolume(
            f"'{node.GetName()}' has {image.GetNumberOfScalarComponents()} values per voxel "
            "(colour, vectors or a series): convert it to, or choose, a scalar volume."
        )
    shape = image.GetDimensions()[::-1]
    data = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape).copy()
    volume = Volume(data, _ijkToRAS(node))
    volume.check()
    return volume


def _ijkToRAS(node: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


@dataclass(frozen=True)
class Place:
    """Where a result belongs: all of its source that matters, as it was at the start.

    The source may be moved, renamed or removed while the worker computes.
    """

    scene: Any
    geometry: Any  # a vtkMRMLScalarVolumeNode outside the scene
    sourceName: str
    sourceID: str
    transformID: str | None

    @classmethod
    def of(cls, source: Any) -> Place:
        geometry = slicer.vtkMRMLScalarVolumeNode()
        geometry.CopyOrientation(source)
        return cls(
            source.GetScene(),
            geometry,
            source.GetName() or "Volume",
            source.GetID(),
            source.GetTransformNodeID(),
        )


@dataclass(frozen=True)
class Layer:
    """One volume to be added: name, values [k, j, i] float32, description, attributes without
    their prefix, displayed range (None: robust limits of the values)."""

    name: str
    data: np.ndarray
    description: str
    attributes: Mapping[str, str]
    displayed: tuple[float, float] | None = None


def addLayers(place: Place, layers: list[Layer]) -> list[Any]:
    """Add one vtkMRMLScalarVolumeNode per layer: all of them, or none and the failure's error."""
    added: list[Any] = []
    try:
        for layer in layers:
            _addLayer(place, layer, added.append)
    except BaseException:
        for node in reversed(added):
            _remove(place.scene, node)
        raise
    return added


def _addLayer(place: Place, layer: Layer, onAdded: Callable[[Any], None]) -> None:
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(place.scene.GenerateUniqueName(layer.name))
    node.SetDescription(layer.description)
    for key, value in layer.attributes.items():
        node.SetAttribute(ATTRIBUTE_PREFIX + key, value)
    node.CopyOrientation(place.geometry)  # the numbers themselves, never a decomposed matrix
    image = _image(layer.data)
    if place.scene.AddNode(node) is None:
        raise RuntimeError("the scene refused the new volume")
    onAdded(node)
    if place.transformID and place.scene.GetNodeByID(place.transformID) is not None:
        node.SetAndObserveTransformNodeID(place.transformID)
    # Before the image, whose histogram would be taken for a window that nobody wants.
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if display is not None:
        low, high = layer.displayed or _range(layer.data)
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(low, high)
    node.SetAndObserveImageData(image)
    _putBeside(place, node)


def _image(data: np.ndarray) -> Any:
    """vtkImageData with a copy of data [k, j, i]."""
    values = np.ascontiguousarray(data, dtype=np.float32)
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(values.dtype), 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = values.ravel()
    return image


def _range(data: np.ndarray) -> tuple[float, float]:
    """Limits for the display: air black, the brightest half percent white."""
    sample = data.ravel()[:: max(1, data.size // 1_000_000)]
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    return low, high if high > low else low + 1.0


def _putBeside(place: Place, node: Any) -> None:
    """Next to the source in the subject hierarchy, if the scene has one and the source is in it."""
    hierarchy = _hierarchy(place.scene)
    source = place.scene.GetNodeByID(place.sourceID) if place.sourceID else None
    if hierarchy is None or source is None:
        return
    sourceItem = hierarchy.GetItemByDataNode(source)
    if not sourceItem:
        return
    parent = hierarchy.GetItemParent(sourceItem)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def _hierarchy(scene: Any) -> Any:
    # vtkMRMLSubjectHierarchyNode's own accessor would add one to a scene that has none.
    return scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")


def _remove(scene: Any, node: Any) -> None:
    with contextlib.suppress(Exception):  # the first failure is the one to report
        hierarchy = _hierarchy(scene)
        item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
        if item:
            hierarchy.RemoveItem(item, False, False)
    for related in (node.GetDisplayNode(), node.GetStorageNode(), node):
        if related is not None and scene.IsNodePresent(related):
            scene.RemoveNode(related)
