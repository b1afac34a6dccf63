"""The check of sources: shapes known in closed form, egg-shaped heads learnt, others told apart."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion.errors import InvalidCard, InvalidData, UnlikelySource
from midiffusion.images.volume import Volume
from midiffusion.pipeline.familiarity import Familiar, describe_slices
from midiffusion.pipeline.target import load_model
from midiffusion.training.familiarity_statistics import learn

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
    return learn(images, [str(i // 8) for i in range(80)], PIXEL_MM)


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


def test_statistics_survive_json(familiar):
    again = Familiar.from_dict(json.loads(json.dumps(familiar.to_dict())))
    slices = np.rot90(egg(np.random.default_rng(8), 9), 1, axes=(1, 2))
    first, kept = (f.judge(slices, PIXEL_MM) for f in (familiar, again))
    assert kept.distance == pytest.approx(first.distance, rel=0.02)
    assert (kept.turn, kept.problem) == (first.turn, first.problem)


def test_translation_warns_of_an_unlikely_source_in_its_plane(familiar, tmp_path):
    model = load_model(saveTiny(tmp_path / "tiny", pixel_mm=PIXEL_MM))
    model.familiar = {"axial": familiar}
    heads = egg(np.random.default_rng(9), 6).astype(np.float32)
    axes = np.diag([-PIXEL_MM, -PIXEL_MM, 9.0, 1.0])
    box = np.zeros((6, SIDE, SIDE), np.float32)
    box[:, 12:68, 15:65] = 1
    box[:, 20:30, 20:30] = 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikelySource)
        made = model.translate(Volume(heads, axes), views=1, device="cpu", source="mr")
    assert made.provenance["warning"] is None
    with pytest.warns(UnlikelySource):
        made = model.translate(Volume(box, axes), views=1, device="cpu", source="mr")
    assert made.provenance["warning"]


def test_too_few_heads_are_refused():
    with pytest.raises(InvalidData):
        learn(np.zeros((4, SIDE, SIDE), np.float32), ["a", "a", "b", "b"], PIXEL_MM)


@pytest.mark.parametrize("changes", [{"version": 9}, {"mean": "1 2"}, {"rest": -1}])
def test_damaged_statistics_are_refused(familiar, changes):
    with pytest.raises(InvalidCard):
        Familiar.from_dict({**familiar.to_dict(), **changes})
