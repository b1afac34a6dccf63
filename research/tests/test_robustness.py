"""The robustness benchmark: doses of the disturbances, who follows them, and the command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion.images.volume import Volume
from midiffusion_research import disturbances
from midiffusion_research.cli import main
from midiffusion_research.datasets import Subject
from midiffusion_research.disturbances import DISTURBANCES
from midiffusion_research.robustness import UNDISTURBED, responses

SIDE, PIXEL_MM = 96, 2.0
GRID = np.diag([-PIXEL_MM, -PIXEL_MM, 5.0, 1.0])


def _volume(data, modality="MR"):
    return Volume(np.asarray(data, dtype=np.float32), GRID, modality)


def _head(slices=3):
    """A bright rim round a grainy brain."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radius = np.hypot(x, y)
    brain = 0.4 + 0.2 * np.sin(x / 3) * np.cos(y / 4)
    one = np.where(radius < 38, np.where(radius > 34, 0.9, brain), 0.0)
    return np.stack([one] * slices)


def _subject(name="a", modality="MR", contiguous=False):
    source = _head()
    target = np.where(source > 0, 1 - source, 0).astype(np.float32)
    return Subject(name, _volume(source, modality), target, source > 0, contiguous=contiguous)


def _inverse(source):
    """A translator without fault that looks at each pixel alone."""
    return np.where(source.data > 0.02, 1 - source.data, 0).astype(np.float32), False


def _values(name_or_function, data, modality="MR", seed=0):
    return name_or_function(_volume(data, modality), np.random.default_rng(seed))


def test_a_bias_field_is_smooth_and_reaches_its_dose():
    found = np.log(_values(disturbances.bias_field(0.7), np.full((4, 40, 40), 0.5)) / 0.5)
    assert found.min() == pytest.approx(-0.7, abs=1e-5)
    assert found.max() == pytest.approx(0.7, abs=1e-5)
    for axis in (1, 2):  # of the second degree in plane
        np.testing.assert_allclose(np.diff(found, 3, axis=axis), 0, atol=1e-5)


def test_noise_is_rician_in_mr_and_gaussian_in_ct():
    dose, air, tissue = disturbances.noise(0.1, 0.03), np.zeros((4, 90, 90)), np.ones((4, 90, 90))
    rayleigh = _values(dose, air)
    assert rayleigh.min() >= 0
    assert rayleigh.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)
    assert _values(dose, tissue).std() == pytest.approx(0.1, rel=0.03)
    gaussian = _values(dose, air, "CT")
    assert gaussian.mean() == pytest.approx(0, abs=1e-3)
    assert gaussian.std() == pytest.approx(0.03, rel=0.02)


def test_contrast_is_lowered_and_turned_over_inside_the_head_alone():
    source = _head()
    inside = source > 0.03
    low = _values(disturbances.lower_contrast(0.4), source)
    assert np.ptp(low[inside]) == pytest.approx(0.4 * np.ptp(source[inside]), rel=1e-4)
    turned = _values(disturbances.inverted, source)
    assert np.corrcoef(source[inside], turned[inside])[0, 1] < -0.99
    for changed in (low, turned):
        np.testing.assert_array_equal(changed[~inside], source[~inside].astype(np.float32))


def test_blur_spreads_a_point_by_its_dose_in_plane_alone():
    data = np.zeros((3, SIDE, SIDE))
    data[1, 40, 50] = 1
    found = _values(disturbances.blurred(6.0), data)
    assert not found[[0, 2]].any()
    for axis, centre in ((0, 40), (1, 50)):
        profile = found[1].sum(axis=1 - axis)
        spread = np.sqrt(np.sum(profile * (np.arange(SIDE) - centre) ** 2) / profile.sum())
        assert spread * PIXEL_MM == pytest.approx(6.0, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_blur_across_themselves_alone(axis):
    random = np.random.default_rng(0).random((12, 40, 40))
    found = _values(disturbances.thick(axis, 20.0), random)
    rough = [float(np.abs(np.diff(stack, axis=axis)).mean()) for stack in (random, found)]
    assert rough[1] < 0.5 * rough[0]
    ramp = np.moveaxis(np.broadcast_to(random[0, 0], (12, 40, 40)), 2, axis - 1 if axis else 1)
    np.testing.assert_allclose(_values(disturbances.thick(axis, 20.0), ramp), ramp, atol=1e-5)


def _place_mm(volume):
    """Where the mass of a volume lies in the patient, millimetres."""
    k, j, i = (np.average(n, weights=volume.data) for n in np.indices(volume.data.shape))
    return (volume.ijkToRAS @ [i, j, k, 1])[:3]


def _blob():
    y, x = np.mgrid[:SIDE, :SIDE]
    return _volume(np.exp(-((y - 60) ** 2 + (x - 55) ** 2) / 30)[None])


@pytest.mark.parametrize("mm, side", [(1.0, 192), (3.0, 64)])
def test_other_pixels_show_the_same_place(mm, side):
    source = _blob()
    seen = disturbances.pixels(mm)(source)(source)
    assert seen.data.shape == (1, side, side)
    assert seen.spacing_mm == pytest.approx((mm, mm, 5.0))
    np.testing.assert_allclose(_place_mm(seen), _place_mm(source), atol=0.02)


def test_a_turn_moves_a_point_round_the_middle_by_its_angle():
    source = _blob()
    seen = disturbances.turned(25.0)(source)(source)
    middle = (source.ijkToRAS @ [(SIDE - 1) / 2, (SIDE - 1) / 2, 0, 1])[:2]
    before, after = (complex(*(_place_mm(v)[:2] - middle)) for v in (source, seen))
    assert abs(after) == pytest.approx(abs(before), rel=1e-3)
    assert abs(np.angle(after / before, deg=True)) == pytest.approx(25.0, abs=0.1)


def test_a_cut_takes_its_shares_of_the_head_and_leaves_the_rest_where_it_was():
    source = _volume(_head())  # 76 pixels across
    seen = disturbances.clipped(0.25, 0.5)(source)(source)
    assert seen.data.shape == (3, SIDE - 10 - 19, SIDE - 10 - 38)
    np.testing.assert_array_equal(seen.data, source.data[:, 29:, 48:])
    np.testing.assert_allclose(seen.ijkToRAS @ [0, 0, 0, 1], source.ijkToRAS @ [48, 29, 0, 1])


def test_extraction_takes_off_its_depth_all_round():
    source = _volume(_head())
    seen = disturbances.extracted(12.0)(source)(source)
    radius_mm = np.sqrt((seen.data > 0).sum(axis=(1, 2)) / np.pi) * PIXEL_MM
    np.testing.assert_allclose(radius_mm, 76 - 12, atol=1.5 * PIXEL_MM)
    np.testing.assert_array_equal(seen.data[seen.data > 0], source.data[seen.data > 0])


def test_a_translator_that_follows_the_picture_loses_nothing_to_views():
    names = [n for n, one in DISTURBANCES.items() if one.view and not one.takes_brightest]
    subject = _subject()
    fainter = replace(subject, target=0.8 * subject.source.data)
    found = responses(lambda source: (0.8 * source.data, False), [fainter], "MR", names=names)
    assert len(names) == 5
    for name in names:
        (answer,) = found[name].values()
        assert answer.ssim == pytest.approx(1, abs=1e-4), name
        assert answer.ssim_before == pytest.approx(1, abs=1e-4), name


def test_a_head_without_its_bright_rim_is_scaled_by_what_is_left():
    source = _head()
    subject = replace(_subject(), target=source.astype(np.float32))
    gain = 0.9 / np.percentile(source[source < 0.61][source[source < 0.61] > 0], 99.5)
    name = "without scalp and skull"
    found = responses(lambda one: (gain * one.data, False), [subject], "MR", names=[name])
    (answer,) = found[name].values()
    assert answer.mae == pytest.approx(0, abs=2e-3)  # the brain's grain is not the same all over
    assert answer.mae_before > 0.1  # scaled likewise, it is too bright by the gain once more
    (absolute,) = responses(lambda one: (one.data, False), [subject], "CT", names=[name])[
        name
    ].values()
    assert absolute.mae == 0


def test_one_that_copies_what_it_saw_once_loses_all_when_the_picture_moves():
    memory = _inverse(_subject().source)
    found = responses(lambda source: memory, [_subject()], "MR", names=["turned by 25 degrees"])
    (answer,) = found["turned by 25 degrees"].values()
    assert answer.ssim_before > 0.9 > 0.7 > answer.ssim


def test_values_are_compared_with_the_undisturbed_source_of_the_same_subject():
    subjects = [_subject("a"), _subject("b")]
    names = ["noise, 10 % (CT 90 HU)", "blurred, 3 mm"]
    found = responses(_inverse, subjects, "MR", names=names, slices=2)
    for name in names:
        for subject, answer in found[name].items():
            assert answer.ssim_before == found[UNDISTURBED][subject].ssim == pytest.approx(1)
            assert answer.ssim < 0.9 and answer.mae > answer.mae_before
    noisy = found[names[0]]
    assert noisy["a"] != noisy["b"]  # each subject has its own noise
    assert responses(_inverse, subjects, "MR", names=names, slices=2) == found
    assert responses(_inverse, subjects, "MR", names=names, slices=2, seed=1) != found


def test_what_a_source_can_not_suffer_is_left_out():
    everything = set(DISTURBANCES) | {UNDISTURBED}
    thick = {"axial slices of 9 mm"}
    assert set(responses(_inverse, [_subject(contiguous=True)], "MR")) == everything
    assert set(responses(_inverse, [_subject()], "MR")) == everything - thick
    of_ct = set(responses(_inverse, [_subject(modality="CT")], "MR"))
    assert everything - thick - of_ct == {n for n, d in DISTURBANCES.items() if d.mr_only}
    assert "inverted" not in of_ct and "noise, 3 % (CT 30 HU)" in of_ct


def test_the_command_keeps_every_figure(tmp_path, monkeypatch, capsys):
    class Data:
        name, directions, bundles = "heads", ("t1:mr",), {}

        def load(self, root, direction, split, most=None):
            return [_subject("a"), _subject("b")][:most]

    monkeypatch.setattr("midiffusion_research.run.dataset", lambda name: Data())
    out = tmp_path / "robustness.json"
    arguments = ["--data", tmp_path, "--model", saveTiny(tmp_path / "tiny"), "--json", out]
    arguments += ["--device", "cpu", "--steps", 1, "--slices", 1, "--disturbances", "gamma 2"]
    assert main(["robustness", *map(str, arguments)]) == 0
    report = json.loads(out.read_text())
    assert set(report["subjects"]) == {UNDISTURBED, "gamma 2"}
    changed = [
        answer["ssim"] - answer["ssim_before"] for answer in report["subjects"]["gamma 2"].values()
    ]
    assert len(changed) == 2 and report["change"]["gamma 2"]["ssim"]["value"] == pytest.approx(
        np.mean(changed)
    )
    assert any(changed) and report["detail"]
    assert main(["robustness", *map(str, arguments), "--no-detail"]) == 0
    assert json.loads(out.read_text())["subjects"] != report["subjects"]
    text = capsys.readouterr().out
    assert "| undisturbed |" in text and "| gamma 2 |" in text


@pytest.mark.parametrize("option", ["--slices", "--subjects", "--samples"])
def test_nothing_of_something_is_refused(option, capsys):
    assert main(["robustness", "--data", "x", option, "0"]) == 1
    assert f"error: {option} must be at least 1." in capsys.readouterr().err
