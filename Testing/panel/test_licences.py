"""Consent to a non-commercial licence: asked for once, by panel and console alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundles import changeCard
from midiffusion.errors import LicenceNotAccepted, WorkerDied
from panel.conftest import PanelDriver

NO, YES = 0x00010000, 0x00004000  # QMessageBox.No, .Yes


def refuse(folder: Path) -> Any:
    """What starts no worker, and says that it was asked to."""
    raise WorkerDied("started")


def test_a_non_commercial_licence_is_asked_for_once(ready: PanelDriver, models: Path) -> None:
    ready.widget.logic.launcher = refuse
    changeCard(models / "tiny", non_commercial=True, weights_licence="CC BY-NC 4.0")
    ready.panel.chooser.list()
    ready.session.app.setTesting(False)
    ready.session.answer = lambda text: NO
    ready.click()
    ready.assertIdle()
    assert len(ready.session.dialogs) == 1
    assert "CC BY-NC 4.0" in ready.session.dialogs[0]
    assert ready.status == "Not translated: the licence of 'Tiny FLAIR' was not accepted."
    ready.session.answer = lambda text: YES
    ready.click()
    assert ready.status == "started"
    ready.click()
    assert len(ready.session.dialogs) == 2
    changeCard(models / "tiny", weights_licence="Another licence")
    ready.panel.chooser.list()
    ready.click()
    assert len(ready.session.dialogs) == 3


def test_the_console_asks_for_the_same_consent(ready: PanelDriver, models: Path) -> None:
    changeCard(models / "tiny", non_commercial=True)
    logic, source = ready.widget.logic, ready.parameters.sourceVolume
    logic.launcher = refuse
    ready.session.app.setTesting(False)
    ready.session.answer = lambda text: NO
    for call in (logic.start, logic.translate, lambda node, *a, **o: logic.startAll([node], **o)):
        with pytest.raises(LicenceNotAccepted):
            call(source, model="tiny", modelFolder=models)
    assert len(ready.session.dialogs) == 3
    ready.session.answer = lambda text: YES
    assert "started" in str(logic.start(source, model="tiny", modelFolder=models).error)
    ready.panel.chooser.list()
    ready.click()  # the panel knows of it
    assert len(ready.session.dialogs) == 4


def test_testing_mode_asks_nothing(ready: PanelDriver, models: Path) -> None:
    ready.widget.logic.launcher = refuse
    changeCard(models / "tiny", non_commercial=True)
    ready.panel.chooser.list()
    ready.click()
    assert ready.status == "started"
    assert ready.session.dialogs == []
