"""The fuzz campaign: it reads what is whole, and counts what goes wrong."""

from __future__ import annotations

import time

import numpy as np
import pytest
from midiffusion.images import io
from midiffusion_research import fuzz


def test_undamaged_files_are_read_and_damaged_ones_make_no_fault(tmp_path):
    for path in fuzz.valid_files(tmp_path / "valid").values():
        assert io.read_volume(path).data.shape == fuzz.SHAPE
    counts = fuzz.campaign(tmp_path / "campaign", files=44, seed=1, mb=300, seconds=60)["all"]
    assert counts["refused"] > 10 and sum(counts.values()) == 44
    assert [counts[fault] for fault in fuzz.FAULTS] == [0] * 5


def _hang(*_: object) -> None:
    time.sleep(60)


def _allocate(*_: object) -> None:
    np.ones(10**9)


def _fail(*_: object) -> None:
    raise ZeroDivisionError("division")


@pytest.mark.parametrize(
    ("fault", "name"), [(_hang, "time"), (_allocate, "memory"), (_fail, "exception")]
)
def test_every_fault_is_counted_as_such(tmp_path, monkeypatch, fault, name):
    monkeypatch.setattr(fuzz.io, "read_volume", fault)
    counts = fuzz.campaign(tmp_path, files=2, seed=1, mb=300, seconds=1)["all"]
    assert counts[name] == 2
