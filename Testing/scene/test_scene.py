"""Volumes out of a real scene and into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer
from midiffusion.errors import InvalidVolume
from MIDiffusionTranslateLib.scene import volumes as sceneModule
from MIDiffusionTranslateLib.scene.volumes import Layer, Place, addLayers, volumeFromNode
from scene.phantoms import OBLIQUE, head, ijkToRAS, imageOf, vtkMatrix


def test_values_and_geometry_come_out_as_they_are(addVolume: Callable[..., Any]) -> None:
    node = addVolume()
    volume = volumeFromNode(node)
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, head())
    np.testing.assert_allclose(volume.ijkToRAS, OBLIQUE, atol=1e-12)


def test_the_data_is_a_copy(addVolume: Callable[..., Any]) -> None:
    node = addVolume()
    volume = volumeFromNode(node)
    slicer.util.arrayFromVolume(node)[:] = 0
    assert volume.data.any()


def test_a_parent_transform_stays_out_of_the_matrix(
    scene: Any, addVolume: Callable[..., Any]
) -> None:
    node = addVolume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtkMatrix(np.diag([1.0, 2.0, 1.0, 1.0])))
    node.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_allclose(volumeFromNode(node).ijkToRAS, OBLIQUE, atol=1e-12)


def withValue(value: float) -> np.ndarray:
    data = head().astype(np.float32)
    data[2, 3, 4] = value
    return data


BAD = {
    "label map": ({"kind": "vtkMRMLLabelMapVolumeNode"}, "label map"),
    "NaN": ({"data": withValue(np.nan)}, "NaN values"),
    "infinity": ({"data": withValue(np.inf)}, "infinite values"),
    "constant": ({"data": np.full((3, 8, 8), 7, np.int16)}, "constant"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_volumes_each_get_a_sentence(case: str, addVolume: Callable[..., Any]) -> None:
    arguments, words = BAD[case]
    with pytest.raises(InvalidVolume, match=words):
        volumeFromNode(addVolume(**arguments))


def test_colour_empty_and_absent_volumes_each_get_a_sentence(
    scene: Any, addVolume: Callable[..., Any]
) -> None:
    colour = addVolume(name="photo", kind="vtkMRMLVectorVolumeNode")
    colour.SetAndObserveImageData(imageOf(np.zeros((2, 5, 6, 3), np.uint8), components=3))
    with pytest.raises(InvalidVolume, match="'photo' has 3 values per voxel"):
        volumeFromNode(colour)
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(InvalidVolume, match="'nothing' is an empty volume"):
        volumeFromNode(empty)
    with pytest.raises(InvalidVolume, match="No source volume"):
        volumeFromNode(None)
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "skull")
    with pytest.raises(InvalidVolume, match="'skull' is not a volume"):
        volumeFromNode(model)


def test_zero_spacing_gets_a_sentence(addVolume: Callable[..., Any]) -> None:
    node = addVolume()
    node.DisableModifiedEventOn()
    node.SetSpacing(1.0, 0.0, 1.0)
    if ijkToRAS(node)[:3, 1].any():
        pytest.skip("this MRML refuses a spacing of zero by itself")
    with pytest.raises(InvalidVolume, match="spacing"):
        volumeFromNode(node)


def layer(name: str = "out") -> Layer:
    return Layer(name, head().astype(np.float32) * 0.5, "synthetic", {"synthetic": "1"})


def test_a_layer_has_the_source_s_geometry_to_the_last_bit(
    scene: Any, addVolume: Callable[..., Any]
) -> None:
    source = addVolume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    source.SetAndObserveTransformNodeID(transform.GetID())
    place = Place.of(source)
    source.SetOrigin(0, 0, 0)  # whoever moves the source meanwhile does not move the result
    (node,) = addLayers(place, [layer()])
    assert node.IsA("vtkMRMLScalarVolumeNode")
    np.testing.assert_array_equal(ijkToRAS(node), ijkToRAS(place.geometry))
    assert ijkToRAS(node)[0, 3] == OBLIQUE[0, 3]
    assert node.GetImageData().GetDimensions() == source.GetImageData().GetDimensions()
    assert node.GetTransformNodeID() == transform.GetID()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), layer().data)
    display = node.GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert display.GetWindow() == pytest.approx(np.percentile(layer().data, 99.5), rel=1e-3)


def test_a_second_layer_of_the_same_name_gets_another(
    scene: Any, addVolume: Callable[..., Any]
) -> None:
    place = Place.of(addVolume())
    names = [addLayers(place, [layer()])[0].GetName() for _ in range(2)]
    assert names[0] == "out"
    assert len(set(names)) == 2


def test_the_result_lies_beside_the_source_in_the_subject_hierarchy(
    scene: Any, addVolume: Callable[..., Any]
) -> None:
    source = addVolume()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    hierarchy.CreateItem(patient, source)
    (node,) = addLayers(Place.of(source), [layer()])
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == patient


def test_the_source_may_be_gone(scene: Any, addVolume: Callable[..., Any]) -> None:
    source = addVolume()
    place = Place.of(source)
    scene.RemoveNode(source)
    (node,) = addLayers(place, [layer()])
    np.testing.assert_allclose(ijkToRAS(node), OBLIQUE, atol=1e-12)


def test_a_failure_half_way_leaves_nothing(
    scene: Any,
    addVolume: Callable[..., Any],
    nodesOf: Callable[[Any], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place.of(addVolume())
    before = nodesOf(scene)
    calls = []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("no more")

    monkeypatch.setattr(sceneModule, "_putBeside", failing)
    with pytest.raises(RuntimeError, match="no more"):
        addLayers(place, [layer("one"), layer("two")])
    assert len(calls) == 2
    assert nodesOf(scene) == before
