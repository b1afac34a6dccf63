"""What is refused, each with a sentence of its own and nothing created."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from midiffusion.errors import (
    CorruptModel,
    InvalidCard,
    InvalidParameter,
    InvalidVolume,
    UnknownModel,
)
from scene.launching import Spy

PARAMETERS = {
    "steps 0": ({"steps": 0}, InvalidParameter, "steps is 0"),
    "steps 2.5": ({"steps": 2.5}, InvalidParameter, "steps is 2.5"),
    "no samples": ({"samples": 0}, InvalidParameter, "samples is 0"),
    "negative seed": ({"seed": -1}, InvalidParameter, "seed is -1"),
    "device": ({"device": "gpu"}, InvalidParameter, "Device is gpu"),
    "model": ({"model": "no-such-model"}, UnknownModel, "no model 'no-such-model'"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_what_can_be_refused_is_refused_before_a_process_starts(
    case: str, addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any
) -> None:
    changes, kind, words = PARAMETERS[case]
    source = addVolume()
    untouched()
    with pytest.raises(kind, match=words):
        logic.start(source, **{"model": tinyModel, **changes})
    assert spy.processes == []
    untouched()


def test_a_bad_volume_is_refused_before_a_process_starts(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any
) -> None:
    source = addVolume(np.zeros((3, 4, 5), np.int16))
    untouched()
    with pytest.raises(InvalidVolume, match="constant"):
        logic.translate(source, tinyModel)
    assert spy.processes == []
    untouched()


def test_a_volume_of_no_scene_is_refused(
    addVolume: Any, logic: Any, spy: Spy, tinyModel: Path, untouched: Any
) -> None:
    stray = slicer.vtkMRMLScalarVolumeNode()
    stray.SetName("Stray")
    stray.SetAndObserveImageData(addVolume().GetImageData())
    untouched()
    with pytest.raises(InvalidVolume, match="'Stray' is in no scene: add it to the scene first"):
        logic.translate(stray, tinyModel)
    assert spy.processes == []
    untouched()


@functools.cache
def damaged(model: Path, folder: Path, what: str) -> Path:
    copy = folder / what
    shutil.copytree(model, copy)
    if what == "weights":
        weights = bytearray((copy / "weights.safetensors").read_bytes())
        weights[-1] ^= 1
        (copy / "weights.safetensors").write_bytes(weights)
    else:
        card = json.loads((copy / "card.json").read_text())
        card["pixel_mm"] = "five"
        (copy / "card.json").write_text(json.dumps(card))
    return copy


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [("weights", CorruptModel, "SHA-256"), ("card", InvalidCard, "pixel_mm")],
)
def test_damaged_models(
    what: str,
    kind: type[Exception],
    words: str,
    addVolume: Any,
    logic: Any,
    tinyModel: Path,
    tmp_path: Path,
    untouched: Any,
) -> None:
    source = addVolume()
    untouched()
    with pytest.raises(kind, match=words):
        logic.translate(source, damaged(tinyModel, tmp_path, what))
    untouched()
