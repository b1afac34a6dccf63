"""A volume chosen for the result, from the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer
from midiffusion.errors import InvalidParameter
from scene.launching import Spy
from scene.phantoms import head


def test_it_receives_the_result_and_stays_itself(
    scene: Any, addVolume: Any, logic: Any, tinyModel: Path
) -> None:
    source, output = addVolume(), addVolume(head((4, 9, 8)), name="Mine")
    node = logic.translate(source, tinyModel, steps=1, output=output)
    assert node is output and node.GetName() == "Mine"
    assert slicer.util.arrayFromVolume(output).shape == head().shape
    assert output.GetAttribute("MIDiffusion.synthetic") == "1"
    assert output.GetAttribute("MIDiffusion.modality") == "MR FLAIR"
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_what_can_not_receive_it_is_refused_before_a_process_starts(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any
) -> None:
    source, labels = addVolume(), addVolume(name="Labels", kind="vtkMRMLLabelMapVolumeNode")
    untouched()
    for output, words in ((source, "can't be the source"), (labels, "'Labels' is not a scalar")):
        with pytest.raises(InvalidParameter, match=words):
            logic.start(source, tinyModel, output=output)
    assert spy.processes == []
    untouched()
