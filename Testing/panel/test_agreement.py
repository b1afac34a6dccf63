"""The line under a result that says how well it agrees with its source, and offers the map."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import numpy as np
from panel.conftest import PanelDriver

NAME = "T1 [agreement with synthetic FLAIR]"


def shown(driver: PanelDriver) -> bool:
    return bool(driver.ui.agreementArea.visible)


def test_nothing_is_shown_before_the_first_run(ready: PanelDriver) -> None:
    assert not shown(ready)


def test_the_figure_is_shown_and_the_map_added_once(ready: PanelDriver) -> None:
    import slicer

    ready.run()
    assert shown(ready)
    text = ready.ui.agreementLabel.text
    match = re.fullmatch(
        r"Agreement with the source inside the head: ([01]\.\d\d) \(median\)", text
    )
    assert match, text
    assert ready.volumes() == ["T1", "T1 [synthetic FLAIR]"]  # nothing unasked
    ended = ready.status
    ready.ui.agreementButton.click()
    assert ready.volumes() == ["T1", "T1 [synthetic FLAIR]", NAME]
    assert ready.ui.agreementLabel.text == f"{text}\nAdded: '{NAME}'."
    assert ready.status == ended  # how the translation ended stays to be read
    assert not ready.ui.agreementButton.enabled
    values = slicer.util.arrayFromVolume(ready.volumeNodes()[2])
    assert values.min() >= 0 and values.max() <= 1
    source = slicer.util.arrayFromVolume(ready.parameters.sourceVolume)
    assert abs(np.median(values[source > 0]) - float(match.group(1))) < 0.1


def test_the_next_run_lets_go_of_the_map(ready: PanelDriver) -> None:
    ready.run()
    held: Any = weakref.ref(ready.panel.agreement._add)
    assert held() is not None
    ready.click()
    gc.collect()
    assert held() is None
    assert not shown(ready)
    ready.waitForEnd()
    assert shown(ready)
    assert ready.ui.agreementButton.enabled
    ready.ui.agreementButton.click()
    assert ready.volumes().count(NAME) == 1


def test_a_cancelled_run_has_none(ready: PanelDriver) -> None:
    ready.runForever()
    ready.click()
    ready.waitForProgress()
    ready.click()
    ready.waitForEnd(60)
    assert not shown(ready)


def test_closing_the_scene_lets_go_of_the_map(ready: PanelDriver) -> None:
    import slicer

    ready.run()
    slicer.mrmlScene.Clear()
    assert not shown(ready)
    assert ready.panel.agreement._add is None


def test_a_map_that_can_not_be_added_is_told(ready: PanelDriver) -> None:
    ready.run()

    def fail() -> None:
        raise MemoryError("too large")

    ready.panel.agreement._add = fail
    ready.ui.agreementButton.click()
    assert ready.ui.agreementLabel.text.endswith("The map could not be added (too large).")
    assert ready.volumes() == ["T1", "T1 [synthetic FLAIR]"]
