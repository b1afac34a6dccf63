"""The whole way: a node in a real scene, the real worker process, a node in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from midiffusion import __version__
from midiffusion.models import registry
from scene.phantoms import OBLIQUE, head, ijkToRAS, parentMatrix, vtkMatrix

SLANTED = np.array(
    [
        [0.9, -0.2, 0.1, 12.0],
        [0.25, 0.95, -0.1, -7.5],
        [-0.05, 0.1, 1.1, 30.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


@pytest.fixture
def moved(scene: Any, addVolume: Any) -> Any:
    """A source under a parent transform that also shears, which is none of our business."""
    source = addVolume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "couch")
    transform.SetMatrixTransformToParent(vtkMatrix(SLANTED))
    source.SetAndObserveTransformNodeID(transform.GetID())
    source.SetAttribute("DICOM.instanceUIDs", "1.2.3 4.5.6")
    return source


def test_the_shipped_model_translates(scene: Any, moved: Any, logic: Any, flair: Path) -> None:
    seen = []
    node = logic.translate(moved, flair, views=3, onProgress=seen.append)
    card = registry.find(flair).card
    assert card is not None
    assert node.GetScene() is scene
    assert node.GetClassName() == "vtkMRMLScalarVolumeNode"
    assert node.GetName() == "Synthetic FLAIR of T1"
    attributes = {
        "model": "flair",
        "weightsSHA256": card.weights_sha256,
        "version": __version__,
        "views": "3",
        "steps": "1",
        "source": "T1",
        "synthetic": "1",
    }
    assert {key: node.GetAttribute(f"MIDiffusion.{key}") for key in attributes} == attributes
    assert "not for diagnosis" in node.GetDescription()
    assert node.GetAttribute("DICOM.instanceUIDs") is None
    np.testing.assert_array_equal(ijkToRAS(node), ijkToRAS(moved))
    assert node.GetTransformNodeID() == moved.GetTransformNodeID()
    values = slicer.util.arrayFromVolume(node)
    assert values.shape == head().shape
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(moved), head())
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {progress.device for progress in seen} == {"cpu"}


def test_start_reports_back(
    addVolume: Any, logic: Any, tinyModel: Path, waitFor: Any, handover: Path
) -> None:
    ended, previews = [], []
    job = logic.start(
        addVolume(),
        tinyModel,
        steps=5,
        samples=2,
        onProgress=lambda progress: previews.append(progress.preview),
        onDone=ended.append,
    )
    assert job.state in ("preparing", "running")
    waitFor(job)
    assert job.state == "done"
    assert job.error is None
    assert ended == [job]
    assert job.node.GetName() == "Synthetic FLAIR of T1"
    deviation = slicer.util.arrayFromVolume(job.deviationNode)
    assert deviation.min() >= 0
    assert deviation.max() > 0
    assert job.deviationNode.GetName() == "Deviation of synthetic FLAIR of T1"
    pictures = [preview for preview in previews if preview is not None]
    assert pictures
    assert pictures[-1].ndim == 2
    assert list(handover.iterdir()) == []


def test_the_same_seed_gives_the_same_volume(addVolume: Any, logic: Any, tinyModel: Path) -> None:
    source = addVolume()
    runs = [
        slicer.util.arrayFromVolume(logic.translate(source, tinyModel, steps=3, seed=seed))
        for seed in (1, 1, 2)
    ]
    span = np.ptp(runs[0])
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-4 * span)
    assert np.abs(runs[0] - runs[2]).max() > 1e-3 * span


def test_a_listener_that_fails_does_no_harm(
    addVolume: Any, logic: Any, tinyModel: Path, handover: Path
) -> None:
    def careless(_: Any) -> None:
        raise ValueError("a bug of the listener's")

    assert logic.translate(addVolume(), tinyModel, steps=1, onProgress=careless) is not None
    assert list(handover.iterdir()) == []


@pytest.mark.parametrize("form", ["mrb", "mrml"])
def test_a_saved_scene_brings_everything_back(
    form: str, scene: Any, moved: Any, logic: Any, tinyModel: Path, tmp_path: Path
) -> None:
    node = logic.translate(moved, tinyModel, steps=1)
    values = slicer.util.arrayFromVolume(node).copy()
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}
    path = tmp_path / f"scene.{form}"
    if form == "mrb":
        assert scene.WriteToMRB(str(path))
        scene.Clear(0)
        assert scene.ReadFromMRB(str(path))
    else:
        for volume in (moved, node):
            volume.AddDefaultStorageNode()
            volume.GetStorageNode().SetFileName(str(tmp_path / f"{volume.GetID()}.nrrd"))
            assert volume.GetStorageNode().WriteData(volume)
        scene.SetRootDirectory(str(tmp_path))
        assert scene.Commit(str(path))
        scene.Clear(0)
        scene.SetURL(str(path))
        assert scene.Connect()
    again = scene.GetFirstNodeByName("Synthetic FLAIR of T1")
    assert (
        attributes.items()
        <= {name: again.GetAttribute(name) for name in again.GetAttributeNames()}.items()
    )
    assert "not for diagnosis" in again.GetDescription()
    np.testing.assert_allclose(ijkToRAS(again), OBLIQUE, atol=1e-5)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), values)
    assert again.GetParentTransformNode().GetName() == "couch"
    np.testing.assert_allclose(parentMatrix(again), SLANTED)
