"""Layout and slice views as MRML has them; nothing is drawn."""

from __future__ import annotations

from typing import Any

NAMES = ("Red", "Yellow", "Green")
FOUR_UP = 3


def addViews(scene: Any) -> Any:
    """The nodes that the application makes for its views; returns that of the layout, four-up."""
    import slicer

    layout = slicer.vtkMRMLLayoutNode()
    for arrangement in (FOUR_UP, layout.SlicerLayoutSideBySideView):
        layout.AddLayoutDescription(arrangement, "<layout type='horizontal'/>")
    scene.AddNode(layout)
    layout.SetViewArrangement(FOUR_UP)
    for name in NAMES:
        for kind in (slicer.vtkMRMLSliceNode, slicer.vtkMRMLSliceCompositeNode):
            node = kind()
            node.SetSingletonTag(name)
            node.SetLayoutName(name)
            scene.AddNode(node)
    return layout
