"""The agreement of a result with its source: from the worker to the scene, when it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from midiffusion import worker
from scene.phantoms import head, ijkToRAS, vtkMatrix


def test_the_map_is_added_only_when_asked_for(
    scene: Any, addVolume: Any, logic: Any, tinyModel: Path, waitFor: Any, handover: Path
) -> None:
    source = addVolume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "couch")
    transform.SetMatrixTransformToParent(vtkMatrix(np.diag([1.0, -1.0, -1.0, 1.0])))
    source.SetAndObserveTransformNodeID(transform.GetID())
    job = logic.start(source, tinyModel, steps=2)
    waitFor(job)
    assert job.error is None
    assert len(slicer.util.getNodesByClass("vtkMRMLVolumeNode")) == 2
    assert list(handover.iterdir()) == []
    told = job.provenance["agreement"]
    assert 0 <= told <= 1

    node = job.addAgreement()
    assert node.GetScene() is scene
    assert node.GetName() == "T1 [agreement with synthetic FLAIR]"
    assert node.GetAttribute("MIDiffusion.model") == "tiny"
    assert node.GetAttribute("MIDiffusion.source") == "T1"
    assert "no measure of truth" in node.GetDescription()
    np.testing.assert_array_equal(ijkToRAS(node), ijkToRAS(source))
    assert node.GetTransformNodeID() == transform.GetID()
    values = slicer.util.arrayFromVolume(node)
    assert values.shape == head().shape
    assert values.min() >= 0 and 0 < values.max() <= 1
    inside = head() > 0.05 * np.percentile(head(), 99)
    assert abs(np.median(values[inside]) - told) < 0.1
    display = node.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (1.0, 0.5)


def test_the_worker_hands_the_map_over(tmp_path: Path, tinyModel: Path) -> None:
    """As written in its protocol: agreement.npy, listed in the event."""
    np.save(tmp_path / "source.npy", head())
    job = {"task": "translate", "model": str(tinyModel), "steps": 1}
    job["ijkToRAS"] = np.diag([4.0, 4.0, 5.0, 1.0]).tolist()
    (tmp_path / "job.json").write_text(json.dumps(job), "utf-8")
    events: list[tuple[str, dict[str, Any]]] = []

    class Listener:
        def send(self, event: str, **fields: Any) -> None:
            events.append((event, fields))

    class Watch:
        class requested:
            is_set = staticmethod(lambda: False)

    worker.run(tmp_path, Listener(), Watch())  # type: ignore[arg-type]
    kind, done = events[-1]
    assert kind == "done"
    assert (done["result"], done["uncertainty"]) == ("result.npy", None)
    assert done["agreement"] == "agreement.npy"
    found = np.load(tmp_path / "agreement.npy")
    assert found.shape == head().shape and found.dtype == np.float32
    assert 0 <= done["provenance"]["agreement"] <= 1
