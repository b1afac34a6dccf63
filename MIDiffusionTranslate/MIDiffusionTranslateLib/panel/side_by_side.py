"""The box under a result that shows it beside its source, and the views as they were without it."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

_VIEWS = ("Red", "Yellow")  # of Slicer's layout "side by side": source, result


class SideBySide:
    """Changes the user's views only while the box is ticked, and only two of them.

    Asks the nodes of layout and slice views, which the application makes; without them there is no
    box.
    """

    def __init__(self, ui: Any) -> None:
        self._box = ui.sideBySideCheckBox
        self._pair: tuple[str, str] | None = None  # IDs of the source and the result
        self._before: _Views | None = None
        self._box.connect("toggled(bool)", self._onToggled)
        self.forget()

    def offer(self, source: Any, result: Any) -> None:
        """A new result, over its source in all views; beside it if the box is still ticked."""
        self._pair = (source.GetID(), result.GetID())
        self._box.visible = _Views.there()
        if self._before is not None:
            self._before.noteLayers()
            _show(*self._pair)

    def forget(self) -> None:
        """Nothing to show any more: the scene or the module goes away."""
        self._box.checked = False
        self._pair = None
        self._box.visible = False

    def _onToggled(self, on: bool) -> None:
        if on and self._pair is not None and _Views.there():
            self._before = self._before or _Views()
            _show(*self._pair)
        elif self._before is not None:
            before, self._before = self._before, None
            before.restore()


class _Views:
    """The layout, and what its two views show and where."""

    def __init__(self) -> None:
        self._arrangement = _layout().GetViewArrangement()
        self._linked = [bool(_composite(name).GetLinkedControl()) for name in _VIEWS]
        self.noteLayers()
        second = _slice(_VIEWS[1])
        self._place = vtk.vtkMatrix4x4()
        self._place.DeepCopy(second.GetSliceToRAS())
        self._field = second.GetFieldOfView()

    @staticmethod
    def there() -> bool:
        nodes = [_layout(), *(find(name) for name in _VIEWS for find in (_slice, _composite))]
        return all(node is not None for node in nodes)

    def noteLayers(self) -> None:
        """What the views show now is what they are to show again."""
        self._layers = [_layers(name) for name in _VIEWS]

    def restore(self) -> None:
        if not self.there():
            return
        for name, layers, linked in zip(_VIEWS, self._layers, self._linked, strict=True):
            _setLayers(name, *layers, linked)
        _place(_slice(_VIEWS[1]), self._place, self._field)
        if _layout().GetViewArrangement() == _layout().SlicerLayoutSideBySideView:
            _layout().SetViewArrangement(self._arrangement)  # else the user has chosen another


def _show(source: str, result: str) -> None:
    """Each in a view of its own, both at the place where the first view is."""
    for name, volume in zip(_VIEWS, (source, result), strict=True):
        _setLayers(name, volume, None, 0.0, True)
    first, second = map(_slice, _VIEWS)
    _place(second, first.GetSliceToRAS(), first.GetFieldOfView())
    _layout().SetViewArrangement(_layout().SlicerLayoutSideBySideView)


def _layers(name: str) -> tuple[Any, Any, float]:
    node = _composite(name)
    shown = (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID())
    return *shown, node.GetForegroundOpacity()


def _setLayers(name: str, background: Any, foreground: Any, opacity: float, linked: bool) -> None:
    node = _composite(name)
    node.SetLinkedControl(False)  # else what is set here goes to the other views too
    node.SetBackgroundVolumeID(_there(background))
    node.SetForegroundVolumeID(_there(foreground))
    node.SetForegroundOpacity(opacity)
    node.SetLinkedControl(linked)


def _there(volume: str | None) -> str | None:
    """The ID, unless its node has gone meanwhile."""
    return volume if volume and slicer.mrmlScene.GetNodeByID(volume) else None


def _place(view: Any, sliceToRAS: vtk.vtkMatrix4x4, field: Any) -> None:
    view.GetSliceToRAS().DeepCopy(sliceToRAS)
    view.UpdateMatrices()
    view.SetFieldOfView(*field)


def _layout() -> Any:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _slice(name: str) -> Any:
    return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")


def _composite(name: str) -> Any:
    return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
