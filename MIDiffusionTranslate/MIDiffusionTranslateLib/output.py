"""A result moved into a volume that the user has chosen for it."""

from __future__ import annotations

from typing import Any

import slicer


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
