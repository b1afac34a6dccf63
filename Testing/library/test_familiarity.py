"""The check of sources: shapes known in closed form, egg-shaped heads learnt, others told apart."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion import cli, io
from midiffusion.card import ModelCard
from midiffusion.errors import InvalidCard, InvalidData, UnlikelySource
from midiffusion.evaluation import sources
from midiffusion.evaluation.sources import from_plane, judge, quarter, scaled, turned, wilson
from midiffusion.familiarity import FEATURES, Familiar, describe_slices
from midiffusion.model import load_model
from midiffusion.tasks import translate as translate_task
from midiffusion.tasks.task import Task
from midiffusion.training.data import TrainingSlices
from midiffusion.training.familiarity import learn
from midiffusion.volume import Volume

PIXEL_MM = 3.0
SIDE = 80


def egg(random: np.random.Generator, slices: int, *, contrast: bool = False) -> np.ndarray:
    """Slices of an egg of 190 x 150 mm, its tip anterior, the two halves of its inside unlike."""
    y, x = (np.indices((SIDE, SIDE)) - (SIDE - 1) / 2) * PIXEL_MM
    made = []
    for _ in range(slices):
        size = random.normal(1, 0.04)
        v, u = y / (95 * size), x / (75 * size * (1 + 0.25 * y / 95))
        grain = random.standard_normal((SIDE, SIDE)) * np.where(y < 0, 0.02, 0.12)
        made.append(np.where(u * u + v * v < 1, 0.5 + grain, 0))
    stack = np.clip(np.array(made), 0, 1.25)
    return np.where(stack > 0, 1.1 - stack, 0) if contrast else stack


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    random = np.random.default_rng(0)
    images = np.concatenate([egg(random, 8) for _ in range(10)]).astype(np.float32)
    return learn(TrainingSlices(images, tuple(str(i // 8) for i in range(80))), PIXEL_MM)


def problem(familiar: Familiar, slices: np.ndarray) -> str | None:
    return familiar.judge(slices, PIXEL_MM).problem


def test_outline_and_size_of_an_ellipse_are_those_of_geometry():
    y, x = np.indices((200, 160)) - np.array([99.5, 79.5]).reshape(2, 1, 1)
    slices = ((y / 80) ** 2 + (x / 50) ** 2 < 1)[None].astype(float)
    found = describe_slices(slices, 1.0)
    assert found.area_cm2 == pytest.approx([math.pi * 8 * 5], rel=0.01)
    angle = (np.arange(16) + 0.5) * 2 * np.pi / 16
    radius = 1 / np.hypot(np.cos(angle) / 80, np.sin(angle) / 50) / math.sqrt(80 * 50)
    assert found.described[0, 0] == pytest.approx(radius, abs=0.05)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turn_of_the_features_is_that_of_the_picture(degrees):
    stack = egg(np.random.default_rng(1), 3)
    picture = np.rot90(stack, -degrees // 90, axes=(1, 2))
    found = describe_slices(picture, PIXEL_MM).turned(0)
    assert found == pytest.approx(describe_slices(stack, PIXEL_MM).turned(degrees), abs=0.05)
    mirrored = describe_slices(stack[:, :, ::-1], PIXEL_MM).turned(0)
    assert mirrored == pytest.approx(describe_slices(stack, PIXEL_MM).mirrored(), abs=0.05)


@pytest.mark.parametrize("contrast", [False, True])
def test_heads_never_seen_raise_no_warning_whatever_their_contrast(familiar, contrast):
    for seed in range(20, 30):
        judged = familiar.judge(egg(np.random.default_rng(seed), 12, contrast=contrast), PIXEL_MM)
        assert judged.problem is None
        assert judged.turn == 0 and judged.distance < familiar.volume_limit


@pytest.mark.parametrize(("quarters", "back"), [(1, 90), (2, 180), (3, 270)])
def test_a_turned_head_is_found_with_the_turn_that_undoes_it(familiar, quarters, back):
    slices = np.rot90(egg(np.random.default_rng(3), 12), quarters, axes=(1, 2))
    judged = familiar.judge(slices, PIXEL_MM)
    assert judged.turn == back
    assert f"turned by {back} degrees" in str(judged.problem)


def test_what_is_no_head_is_found(familiar):
    random = np.random.default_rng(4)
    assert "another part" in str(problem(familiar, random.random((12, SIDE, SIDE))))
    box = np.zeros((12, SIDE, SIDE))
    box[:, 12:68, 15:65] = 0.5 + 0.05 * random.standard_normal((12, 56, 50))
    assert "don't look like" in str(problem(familiar, box))
    assert "No slice" in str(problem(familiar, np.zeros((5, SIDE, SIDE))))
    assert math.isnan(familiar.judge(np.zeros((5, SIDE, SIDE)), PIXEL_MM).distance)


@pytest.mark.parametrize("pixel_mm", [PIXEL_MM / 2, PIXEL_MM * 2])
def test_a_wrong_voxel_size_is_found(familiar, pixel_mm):
    judged = familiar.judge(egg(np.random.default_rng(5), 12), pixel_mm)
    assert "cm2" in str(judged.problem)


def test_neck_and_air_in_half_of_the_slices_do_not_matter(familiar):
    random = np.random.default_rng(6)
    slices = egg(random, 16)
    slices[:4] = 0
    slices[4:8, 20:60, 10:70] = 0.5 + 0.1 * random.standard_normal((4, 40, 60))
    assert problem(familiar, slices) is None


def test_a_single_slice_is_judged_too_and_with_more_caution(familiar):
    for seed in range(30, 50):
        assert problem(familiar, egg(np.random.default_rng(seed), 1)) is None
    tilted = np.rot90(egg(np.random.default_rng(7), 1), 1, axes=(1, 2))
    assert "turned" in str(problem(familiar, tilted))
    assert familiar.slice_limit > familiar.volume_limit / 2


def test_the_card_keeps_it(familiar, card_values, tmp_path):
    path = tmp_path / "card.json"
    values = {**card_values, "familiar": familiar.to_dict()}
    path.write_text(json.dumps(values))
    card = ModelCard.read(path)
    assert json.loads(card.to_json()) == values
    again = Familiar.from_dict(card.familiar)
    slices = np.rot90(egg(np.random.default_rng(8), 9), 1, axes=(1, 2))
    told, kept = (f.judge(slices, PIXEL_MM) for f in (familiar, again))
    assert kept.distance == pytest.approx(told.distance, rel=0.02)
    assert (kept.turn, kept.problem) == (told.turn, told.problem)
    assert ModelCard.from_dict(card_values).familiar is None


@pytest.mark.parametrize(
    "change",
    [
        *({"version": 2}, {"mean": "1 2"}, {"rest": 0}, {"axes": []}, {"area_cm2": [5]}),
        *({"mean": "x"}, {"mean": 3}, {"axes": [None]}),
    ],
)
def test_a_damaged_field_is_refused(familiar, change):
    with pytest.raises(InvalidCard, match="familiar"):
        Familiar.from_dict({**familiar.to_dict(), **change})


def test_nothing_is_learnt_from_nothing():
    empty = TrainingSlices(np.zeros((4, SIDE, SIDE), np.float32), ("a", "a", "b", "b"))
    with pytest.raises(InvalidData, match="as large as a head"):
        learn(empty, PIXEL_MM)
    assert FEATURES == 64


def test_wilson_interval():
    found = wilson(0, 100)  # 3.84 / 103.84
    assert (found.value, found.low) == (0, pytest.approx(0, abs=1e-12))
    assert found.high == pytest.approx(0.03699, abs=1e-4)
    assert wilson(5, 10).low == pytest.approx(0.2366, abs=1e-3)


def test_the_benchmark_makes_what_it_says(familiar, card_values):
    values = {**card_values, "pixel_mm": PIXEL_MM, "familiar": familiar.to_dict()}
    card = ModelCard.from_dict(values)
    stack = egg(np.random.default_rng(9), 12)
    volume = Volume(stack, np.diag([-PIXEL_MM, -PIXEL_MM, 5.0, 1.0]))
    assert judge(volume, card).problem is None
    assert judge(turned(volume, 180), card).turn == 180
    assert "cm2" in str(judge(scaled(volume, 2.0), card).problem)
    assert quarter(volume).data.shape == (12, SIDE // 2, SIDE // 2)
    # A marked voxel: third slice from below, row 7 from anterior, column 9 from the right.
    marked = np.zeros_like(stack)
    marked[2, 7, 9] = 1
    stack_volume = Volume(marked, np.diag([-2.0, -3.0, 5.0, 1.0]))
    for plane, place, spacing in (
        ("coronal", (7, 9, 9), (2.0, 5.0, 3.0)),
        ("sagittal", (9, 9, 7), (3.0, 5.0, 2.0)),
    ):
        seen = from_plane(stack_volume, plane)
        assert np.argwhere(seen.data).tolist() == [list(place)]  # row 9: third from below of 12
        assert seen.spacing_mm == pytest.approx(spacing)


def test_the_command_counts_warnings(familiar, card_values, tmp_path, monkeypatch, capsys):
    values = {**card_values, "pixel_mm": PIXEL_MM, "familiar": familiar.to_dict()}
    card = ModelCard.from_dict(values)
    good = Volume(egg(np.random.default_rng(10), 9), np.diag([-PIXEL_MM, -PIXEL_MM, 5.0, 1.0]))
    # The second has no slice with a head: its distance, not a number, has to get into the file.
    made = [(sources.HEADS[2], "a", good), (sources.HEADS[2], "b", scaled(good, 0.2))]
    monkeypatch.setattr(sources, "cases", lambda root: [*made, ("turned", "a", turned(good, 180))])
    entry = type("Entry", (), {"card": card})()
    monkeypatch.setattr(sources.registry, "find", lambda *_: entry)
    file = tmp_path / "found.json"
    assert sources.main(["--data", str(tmp_path), "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["sources"]["volume"][1]["distance"] is None
    rates = report["rates"]
    assert {kind: rate["value"] for kind, rate in rates.items()} == {
        "volume": 0.5,
        "all heads": 0.5,
        "turned": 1.0,
    }
    assert "| turned | 1 | 1.00" in capsys.readouterr().out
    with pytest.raises(InvalidData, match="nowhere does not exist"):
        sources.main(["--data", str(tmp_path / "nowhere")])


@pytest.fixture(scope="module")
def bundle(familiar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return saveTiny(folder, pixel_mm=PIXEL_MM, familiar=familiar.to_dict())


def volume_of(slices: np.ndarray) -> Volume:
    return Volume(slices.astype(np.float32), np.diag([-PIXEL_MM, -PIXEL_MM, 5.0, 1.0]))


def test_a_translation_warns_and_says_so_in_its_provenance(bundle):
    model = load_model(bundle)
    good = egg(np.random.default_rng(11), 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = model.translate(volume_of(good), steps=1, device="cpu").provenance
    assert "warning" not in told and 0 < told["sourceDistance"] < 2
    with pytest.warns(UnlikelySource, match="turned by 180") as caught:
        told = model.translate(volume_of(good[:, ::-1]), steps=1, device="cpu").provenance
    assert told["warning"] == str(caught[0].message)


def test_the_worker_sends_it_as_an_event_and_no_warning_of_other_libraries(
    bundle, tmp_path, monkeypatch
):
    def describe(device):
        elsewhere = "/home/me/midiffusion/.venv/lib/numpy.py"  # below a checkout of this project
        warnings.warn_explicit("of a library", UserWarning, elsewhere, 1)
        return "cpu"

    monkeypatch.setattr("midiffusion.model.describe", describe)
    bad = volume_of(egg(np.random.default_rng(12), 6)[:, ::-1])
    np.save(tmp_path / "source.npy", bad.data)
    job = {"ijkToRAS": bad.ijkToRAS.tolist(), "model": str(bundle), "steps": 1, "device": "cpu"}
    events = []
    task = Task(
        tmp_path, job, lambda event, **fields: events.append((event, fields)), lambda: False
    )
    done = translate_task.run(task)
    told = [fields["message"] for event, fields in events if event == "warning"]
    assert told == [done["provenance"]["warning"]]


@pytest.mark.parametrize("unlikely", [False, True])
def test_the_command_line_says_it_in_one_line(bundle, tmp_path, capsys, unlikely):
    slices = egg(np.random.default_rng(13), 6)
    source, out = tmp_path / "source.nii.gz", tmp_path / "out.nii.gz"
    io.write_volume(source, volume_of(slices[:, ::-1] if unlikely else slices))
    words = ["translate", source, "--to", bundle, "-o", out, "--steps", 1, "--device", "cpu"]
    assert cli.main([*map(str, words), "--json"]) == 0
    text, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("warning: ")]
    said = json.loads(text)["warning"]
    assert out.is_file()
    assert lines == ([f"warning: {said}"] if unlikely else [])
    assert (said is not None) == unlikely
