"""The sample data, as Slicer's module for them is told of them."""

from __future__ import annotations

import hashlib
import sys
import types
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from panel.conftest import PanelDriver


def test_the_sample_data_are_registered_once_slicer_has_started(
    driver: PanelDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(**source: Any) -> None:
            registered.append(source)

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    driver.session.app.startupCompleted.emit()
    assert {source["sampleName"] for source in registered} == {
        "MIDiffusionHeadT1",
        "MIDiffusionHeadFLAIR",
    }
    for source in registered:
        file = Path(urllib.request.url2pathname(urllib.parse.urlparse(source["uris"]).path))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert source["checksums"] == f"SHA256:{digest}"
        assert source["fileNames"] == file.name
        assert Path(source["thumbnailFileName"]).is_file()
