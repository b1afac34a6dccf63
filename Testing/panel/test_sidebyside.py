"""Source and result side by side, on the nodes of Slicer's layout and slice views."""

from __future__ import annotations

from typing import Any

import pytest
from host.views import FOUR_UP, NAMES, addViews
from panel.conftest import PanelDriver


@pytest.fixture
def layout(session: Any) -> Any:
    """The views are somewhere, and Yellow looks from the side."""
    import slicer

    layout = addViews(slicer.mrmlScene)
    for number, name in enumerate(NAMES):
        view = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        view.SetFieldOfView(100 + number, 200 + number, 1)
        view.GetSliceToRAS().SetElement(2, 3, 10 * number + 5)
        view.GetSliceToRAS().SetElement(0, 0, 1 - number)
        view.UpdateMatrices()
    return layout


def state(driver: PanelDriver) -> list[Any]:
    """Of layout and views, as far as a user sees it."""
    scene = driver.slicer.mrmlScene
    seen = [scene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement()]
    for name in NAMES:
        shown = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
        seen += [shown.GetBackgroundVolumeID(), shown.GetForegroundVolumeID()]
        seen += [shown.GetForegroundOpacity(), bool(shown.GetLinkedControl())]
        view = scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        place = [view.GetSliceToRAS().GetElement(r, c) for r in range(4) for c in range(4)]
        seen += [place, view.GetFieldOfView()]
    return seen


def test_side_by_side_and_back(layout: Any, ready: PanelDriver) -> None:
    import slicer

    box = ready.ui.sideBySideCheckBox
    assert not box.visible
    ready.parameters.errorMap = False
    ready.run()
    source, result = ready.volumeNodes()
    before = state(ready)
    assert box.visible and not box.checked
    assert before[1:3] == [source.GetID(), result.GetID()]  # one over the other, in all views
    box.click()
    during = state(ready)
    assert during[0] == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    assert during[1:3] == [source.GetID(), None] and during[7:9] == [result.GetID(), None]
    assert during[5:7] == before[5:7] == during[11:13]  # Red stays, Yellow goes where it is
    assert during[13:] == before[13:]  # Green is none of our business
    assert during[4] and during[10]  # they move together
    box.click()
    assert state(ready) == before

    box.click()
    ready.run()  # the next result takes the place of the first
    newest = ready.volumeNodes()[2].GetID()
    assert state(ready)[7] == newest
    layout.SetViewArrangement(FOUR_UP + 1)  # by the user, who is not overruled
    box.click()
    after = state(ready)
    assert after[0] == FOUR_UP + 1 and after[1:3] == after[7:9] == [source.GetID(), newest]
    assert after[3:7] == before[3:7] and after[9:13] == before[9:13]
    box.click()
    ready.slicer.mrmlScene.Clear()
    assert not box.visible and not box.checked


def test_without_slice_views_there_is_no_box(ready: PanelDriver) -> None:
    ready.run()
    assert not ready.ui.sideBySideCheckBox.visible
