"""What the panel foretells of a run, from the runs before it; on clocks that are set by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bundles import TINY
from midiffusion.models.card import ModelCard

SHARE = 25 / 9  # of the work, with 20 evaluations in place of four views
AXIAL = np.diag([-1.5, -1.5, 4.0])


@pytest.fixture
def durations(session: Any) -> Any:
    import qt
    from MIDiffusionTranslateLib.panel.durations import Durations
    from MIDiffusionTranslateLib.settings import ComputerSettings

    return Durations(ComputerSettings(qt.QSettings()))


def card(**changes: Any) -> ModelCard:
    values = {**TINY, "pixel_mm": 1.5, "seconds_per_slice": {}, **changes}
    return ModelCard.from_dict(values)


def work(evaluations: int, slices: int = 10, model: ModelCard | None = None) -> Any:
    from MIDiffusionTranslateLib.panel.durations import Work

    return Work.of(AXIAL, (128, 128, slices), model or card(), evaluations)


def run(
    durations: Any,
    asked: Any,
    model: ModelCard | None = None,
    start: float = 2.0,
    once: float = 0.035,
    evaluation: float = 0.01,
) -> float:
    """A run on a computer with these seconds, the latter two for a standard slice; returns how
    long it took."""
    from MIDiffusionTranslateLib.panel.durations import RunClock

    now = [start + 0.4 * once * asked.standardSlices]  # maps
    clock = RunClock(asked, lambda: now[0])
    began, evaluations = now[0], asked.standardSlices * asked.evaluations * evaluation
    for share in np.linspace(0, 1, asked.evaluations + 1)[1:]:
        now[0] = began + evaluations * share
        clock.tick(float(share))
    now[0] += 0.6 * once * asked.standardSlices  # the agreement: signs of life only
    clock.tick(1.0)
    durations.learn(model or card(), "cpu", clock, now[0], now[0] - start)
    return now[0]


@pytest.mark.parametrize("evaluations, slices", [(1, 10), (4, 10), (100, 10), (20, 160)])
def test_start_slices_and_evaluations_are_told_apart(
    durations: Any, evaluations: int, slices: int
) -> None:
    run(durations, work(20), start=5.0)
    run(durations, work(20), start=3.0)
    asked = work(evaluations, slices)
    truth = 4.0 + slices * (0.01 * evaluations + 0.035)
    assert durations.estimate(card(), asked, "cpu") == {"": pytest.approx(truth)}


def test_larger_slices_take_longer_and_other_axes_count_the_same(durations: Any) -> None:
    from MIDiffusionTranslateLib.panel.durations import Work

    asked = work(5)
    larger = Work.of(AXIAL, (256, 256, 10), card(), 5)
    assert larger.standardSlices == pytest.approx(4 * asked.standardSlices)
    assert Work.of(AXIAL[:, [2, 0, 1]], (10, 128, 128), card(), 5) == asked
    # No side of the model's grid has less than 64 pixels.
    narrow = Work.of(AXIAL, (2, 128, 10), card(), 5)
    assert narrow.standardSlices == pytest.approx(asked.standardSlices / 2)


def test_models_of_one_network_share_what_was_measured(durations: Any) -> None:
    run(durations, work(20))
    other = card(id="other", title="Other", contrast="t2")
    assert "" in durations.estimate(other, work(20), "cpu")
    assert durations.estimate(other, work(20), "cuda") == {}
    larger = card(backbone_sha256="1" * 64)
    assert durations.estimate(larger, work(20), "cpu") == {}


def test_before_the_first_run_the_card_tells(durations: Any) -> None:
    model = card(seconds_per_slice={"one device": 0.5, "another": 0.05})
    seconds = durations.estimate(model, work(20), "cpu")
    assert seconds == {
        "one device": pytest.approx(2 + 5.0 * SHARE),
        "another": pytest.approx(2 + 0.5 * SHARE),
    }
    # Other numbers of evaluations: what is done once to a slice stays.
    quick = durations.estimate(model, work(1), "cpu")["one device"]
    assert quick == pytest.approx(2 + 5.0 * 6 / 9)
    # The start has been measured with another network: the card's figures rest on it.
    run(durations, work(20), start=9.0)
    larger = card(backbone_sha256="1" * 64, seconds_per_slice={"one device": 0.5})
    assert durations.estimate(larger, work(20), "cpu") == {
        "one device": pytest.approx(9 + 5.0 * SHARE)
    }


def test_one_slow_run_is_soon_forgotten(durations: Any) -> None:
    usual = run(durations, work(20))
    run(durations, work(20), start=20.0, once=0.35, evaluation=0.1)
    for _ in range(6):
        run(durations, work(20))
    (seconds,) = durations.estimate(card(), work(20), "cpu").values()
    assert seconds == pytest.approx(usual, rel=0.2)


def test_a_run_of_one_batch_and_damaged_settings_teach_nothing(durations: Any) -> None:
    import qt

    run(durations, work(1))
    assert durations.estimate(card(), work(1), "cpu") == {}
    for text in ("nan", "-1", "soon", "inf"):
        qt.QSettings().setValue("MIDiffusion/Seconds/cpu/Start", text)
        seconds = durations.estimate(card(seconds_per_slice={"d": 0.5}), work(20), "cpu")
        assert seconds == {"d": pytest.approx(2 + 5.0 * SHARE)}
