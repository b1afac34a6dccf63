"""CT on any scale is recognised, and no MR is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.errors import InvalidVolume
from midiffusion.images.intensity import SourceIntensity
from midiffusion.images.io import read_volume
from midiffusion.images.recognition import Recognised, recognise
from midiffusion.images.volume import Volume

SHAPE = (12, 96, 104)


def _radius() -> np.ndarray:
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius: np.ndarray = np.sqrt((k / 1.3) ** 2 + (j / 0.85) ** 2 + (i / 0.75) ** 2)
    return radius


def head(noise: float, **values: float) -> np.ndarray:
    """Air, skin, fat, bone, brain and ventricle, with `noise`."""
    radius, random = _radius(), np.random.default_rng(0)
    data = np.full(SHAPE, values["air"], np.float32)
    layers = {"skin": 1.0, "fat": 0.96, "bone": 0.9, "brain": 0.82, "ventricle": 0.2}
    for name, outer in layers.items():
        data[radius <= outer] = values[name]
    return data + (noise * random.standard_normal(SHAPE)).astype(np.float32)


def ct(noise: float = 10) -> np.ndarray:
    made = head(noise, air=-1000, skin=40, fat=-95, bone=900, brain=35, ventricle=5)
    bone = (_radius() <= 0.9) & (_radius() > 0.82)
    made[bone] += 300 * np.random.default_rng(1).standard_normal(int(bone.sum()))
    return np.round(made)


def mr(noise: float = 12) -> np.ndarray:
    made = head(noise, air=0, skin=500, fat=1000, bone=90, brain=430, ventricle=150)
    grey = np.sin(np.arange(SHAPE[1]) / 3)[:, None] * np.cos(np.arange(SHAPE[2]) / 4)
    return np.abs(made + 60 * grey * (_radius() < 0.82))


def shown(data: np.ndarray, kind: str = "auto") -> tuple[np.ndarray, Recognised]:
    """Model units, and what the source was recognised as."""
    found = recognise(Volume(data, np.eye(4)), kind)
    return SourceIntensity().forward(found.values, found.kind, found.air)[0], found


INSIDE = _radius() <= 1.02
# Name: stored values, offset (None: estimated, with a warning).
STORED = {
    "HU": (ct(), 0),
    "HU, noise of thin slices": (ct(30), 0),
    "HU + 1024": (np.maximum(ct() + 1024, 0).astype(np.uint16), 1024),
    "HU + 1000": (np.maximum(ct() + 1000, 0).astype(np.uint16), 1000),
    "HU + 1024, zero outside": (np.where(INSIDE, ct() + 1024, 0), 1024),
    "0 to 1": ((ct() - ct().min()) / np.ptp(ct()), None),
    "8 bit": (np.clip((ct() + 1000) / 10, 0, 255).astype(np.uint8), None),
    "cut at -100 and 300": (np.clip(ct(), -100, 300), 0),
    "cut at -200 and 1000": (np.clip(ct(), -200, 1000), 0),
    "cut at -500 and 1300": (np.clip(ct(), -500, 1300), 0),
    "zero outside": (np.where(INSIDE, ct(), 0), 0),
    "cone beam": (np.maximum(ct(), -850), 0),
    "NaN as air": (np.where(ct() < -500, np.nan, ct()), 0),
    "NaN outside the head": (np.where(INSIDE, ct(), np.nan), 0),
}


@pytest.mark.parametrize("name", STORED)
def test_ct_is_recognised_on_any_scale(name):
    data, offset = STORED[name]
    plain, _ = shown(ct())
    units, found = shown(data)
    assert found.kind == "CT"
    assert np.corrcoef(units.ravel(), plain.ravel())[0, 1] > 0.95
    assert np.median(units[~INSIDE]) < 0.03
    brain = _radius() < 0.8
    assert np.median(units[brain]) == pytest.approx(np.median(plain[brain]), abs=0.05)
    if offset is None:
        assert "taken for a CT" in found.warning and "--from mr" in found.warning
    else:
        assert found.warning is None and found.hu_offset == offset


MR = {
    "plain": mr(),
    "0 to 1": mr() / mr().max(),
    "8 bit": (255 * np.minimum(mr() / 1000, 1)).astype(np.uint8),
    "zero mean": (mr() - mr().mean()) / mr().std(),
    "offset": mr() - 1024,
    "NaN outside": np.where(INSIDE, mr(), np.nan),
    "inverted contrast": head(10, air=0, skin=300, fat=350, bone=60, brain=500, ventricle=1000),
}


@pytest.mark.parametrize("name", MR)
def test_no_mr_is_taken_for_a_ct(name):
    found = recognise(Volume(MR[name], np.eye(4)))
    assert found.kind == "MR" and found.warning is None and np.isfinite(found.values).all()


@pytest.mark.parametrize("name", ["openms_long19_T1W.nii.gz", "openms_long19_FLAIR.nii.gz"])
@pytest.mark.parametrize("gain", [1, 0.001, 4])
@pytest.mark.parametrize("offset", [0, 1000, -500])
def test_no_real_mr_is_taken_for_a_ct(root, name, gain, offset):
    data = read_volume(root / "Resources" / "SampleData" / name).data * gain + offset
    assert recognise(Volume(data, np.eye(4))).kind == "MR"


def test_the_user_decides():
    assert recognise(Volume(ct(), np.eye(4)), "mr").kind == "MR"
    brain = ct()[:, 40:-40, 40:-40] / 80  # nothing that tells
    assert recognise(Volume(brain, np.eye(4))).kind == "MR"
    found = recognise(Volume(brain, np.eye(4)), "ct")
    assert found.kind == "CT" and found.warning


def test_the_modality_of_a_volume_decides_where_the_user_does_not():
    assert recognise(Volume(mr(), np.eye(4), "MR")).kind == "MR"
    assert recognise(Volume(ct()[:, 40:-40, 40:-40], np.eye(4), "CT")).kind == "CT"


def test_nan_around_an_mr_is_air():
    plain, _ = shown(mr())
    units, _ = shown(np.where(INSIDE, mr(), np.nan))
    assert (units[~INSIDE] == 0).all()
    np.testing.assert_allclose(units[INSIDE], plain[INSIDE], atol=0.03)


@pytest.mark.parametrize("code", [32767, -32768])
def test_one_percent_at_a_code_leaves_a_picture(code):
    data = mr().astype(np.int16)
    spoilt = np.random.default_rng(2).random(SHAPE) < 0.01
    data[spoilt] = code
    plain, _ = shown(mr())
    units, _ = shown(data)
    assert np.corrcoef(units[~spoilt], plain[~spoilt])[0, 1] > 0.99
    assert np.corrcoef(units.ravel(), plain.ravel())[0, 1] > 0.95


LABELS = {
    "mask": np.where(INSIDE, 1, 0),
    "five": np.digitize(mr(), [50, 200, 400, 700]),
    "tissues": np.digitize(_radius(), np.linspace(0, 1.2, 12)),
    "codes of FreeSurfer": np.digitize(_radius(), np.linspace(0, 1.2, 10)) * 50.0,
}


@pytest.mark.parametrize("name", LABELS)
def test_label_maps_are_refused(name):
    with pytest.raises(InvalidVolume, match="that is a mask or a label map"):
        Volume(LABELS[name], np.eye(4)).check_source()


def test_pictures_of_few_values_are_no_label_maps():
    Volume((mr() / 40).astype(np.uint8), np.eye(4)).check_source()
    Volume(np.clip(ct(), 0, 80).astype(np.uint8), np.eye(4)).check_source()
