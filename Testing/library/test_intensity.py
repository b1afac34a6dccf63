"""Intensity maps on a head phantom whose tissues are known, in the ways scanners store it."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.errors import InvalidCard
from midiffusion.images.intensity import (
    HounsfieldIntensity,
    PercentileIntensity,
    SourceIntensity,
    head_mask,
    intensity_map,
    is_ct,
)
from midiffusion.images.io import read_volume

SHAPE = (12, 64, 72)


def layers() -> dict[str, np.ndarray]:
    """Masks of nested ellipsoids: air, fat, bone, brain, ventricle (a partition)."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt((k / 1.3) ** 2 + (j / 0.85) ** 2 + (i / 0.75) ** 2)
    return {
        "air": radius > 1,
        "fat": (radius <= 1) & (radius > 0.93),
        "bone": (radius <= 0.93) & (radius > 0.85),
        "brain": (radius <= 0.85) & (radius > 0.2),
        "ventricle": radius <= 0.2,
    }


def phantom(noise: float = 0.0, **values: float) -> np.ndarray:
    data = np.zeros(SHAPE, np.float32)
    for name, mask in layers().items():
        data[mask] = values[name]
    return data + noise * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def mr() -> np.ndarray:
    """T1-like, Rician air."""
    return np.abs(phantom(8.0, air=0, fat=1000, bone=80, brain=400, ventricle=150))


def ct() -> np.ndarray:
    return phantom(12.0, air=-1000, fat=-90, bone=1200, brain=35, ventricle=5)


def with_circle(data: np.ndarray, value: float) -> np.ndarray:
    """Outside of the reconstruction circle, as CT scanners fill it."""
    j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[1:]), indexing="ij")
    return np.where(j**2 + i**2 > 0.97, value, data)


def with_couch(data: np.ndarray) -> np.ndarray:
    data = data.copy()
    data[:, -4:-2, 10:-10] = 250
    return data


def brain_only(data: np.ndarray, background: float) -> np.ndarray:
    inside = layers()["brain"] | layers()["ventricle"]
    return np.where(inside, data, background)


def outliers(data: np.ndarray) -> np.ndarray:
    data = data.copy()
    data[0, 0, :6] = 1e6
    return data


SOURCES = {
    "MR": mr(),
    "MR, negative offset": mr() - 1024,
    "MR, scaled to zero mean": (mr() - mr().mean()) / mr().std(),
    "MR, outliers": outliers(mr()),
    "MR, padding code": with_circle(mr(), -32768),
    "MR, background above the tissue": np.where(layers()["air"], 700, mr()),
    "PD": np.abs(phantom(8.0, air=0, fat=900, bone=60, brain=800, ventricle=950)),
    "CT": ct(),
    "CT, clipped at -1024": np.maximum(ct() - 24, -1024),
    "CT, circle of -2000": with_circle(ct(), -2000),
    "CT, circle of -3024": with_circle(ct(), -3024),
    "CT, couch": with_couch(with_circle(ct(), -3024)),
    "CT, stored from 0": np.maximum(ct() + 1024, 0).astype(np.uint16),
    "brain-extracted": brain_only(mr(), 0),
    "brain-extracted, zero mean": brain_only((mr() - 400) / 100, 0),
    "brain-extracted, background 1000": brain_only(mr(), 1000),
}


@pytest.mark.parametrize("name", SOURCES)
def test_any_source_lands_where_training_images_are(name):
    result, scale = SourceIntensity().forward(SOURCES[name])
    parts = layers()
    assert result.dtype == np.float32 and scale > 0
    assert result.min() == 0 and result.max() <= 1.25
    assert np.median(result[parts["air"]]) < 0.03
    brain = np.median(result[parts["brain"]])
    assert 0.25 <= brain <= 0.55
    # Contrast keeps its direction, so that fine structure does too.
    darker = name != "PD"
    assert (np.median(result[parts["ventricle"]]) < brain) == darker


@pytest.mark.parametrize("name", ["openms_long19_T1W.nii.gz", "openms_long19_FLAIR.nii.gz"])
def test_real_whole_heads_land_there_too(root, name):
    data = read_volume(root / "Resources" / "SampleData" / name).data
    result, _ = SourceIntensity().forward(data)
    head = result[head_mask(result)]
    assert 0.25 <= np.median(head) <= 0.5
    assert 0.2 < head.size / result.size < 0.6
    assert np.median(result[~head_mask(result)]) < 0.01


@pytest.mark.parametrize("name", SOURCES)
def test_ct_is_recognised_where_its_units_say_so(name):
    assert is_ct(SOURCES[name]) == (name.startswith("CT") and name != "CT, stored from 0")


def test_ct_whose_air_is_one_value_is_recognised_too():
    assert is_ct(np.where(layers()["air"], -1000, ct()))


def test_an_mr_with_a_fill_value_of_ct_is_no_ct():
    filled = np.where(layers()["air"], -1024, 200 * mr() / mr().max())
    assert not is_ct(filled)
    filled[6, 30:34, 30:40] -= 300  # resampled: some voxels between fill and tissue
    assert not is_ct(filled)


def test_named_ct_needs_no_air_to_be_recognised():
    inside = ct()[:, 20:-20, 22:-22]  # no air in the field of view
    result, scale = SourceIntensity().forward(inside, "CT")
    brain = np.median(result[layers()["brain"][:, 20:-20, 22:-22]])
    assert brain == pytest.approx(0.35 + 0.3 * (35 + 20) / 100, rel=0.01)  # CT_WINDOW at 35 HU
    assert scale == pytest.approx(100 / 0.3)


def test_source_does_not_depend_on_gain_or_padding_with_air():
    source = SourceIntensity()
    result, _ = source.forward(mr())
    np.testing.assert_allclose(source.forward(mr() * 37)[0], result, rtol=2e-4, atol=1e-5)
    padded = np.pad(mr(), ((0, 0), (40, 40), (40, 40)))
    inner = source.forward(padded)[0][:, 40:-40, 40:-40]
    np.testing.assert_allclose(inner, result, atol=0.03)


def test_source_is_left_as_it_was():
    data = mr()
    before = data.copy()
    SourceIntensity().forward(data)
    np.testing.assert_array_equal(data, before)


def test_volume_with_one_voxel_that_differs():
    data = np.zeros((3, 4, 5), np.int16)
    data[1, 2, 3] = 9
    result, _ = SourceIntensity().forward(data)
    assert np.isfinite(result).all() and result[1, 2, 3] > 0 and np.count_nonzero(result) == 1


@pytest.mark.parametrize("pad", [0, 60])
def test_head_mask_is_the_head_whatever_the_field_of_view(pad):
    data = np.pad(mr(), ((0, 0), (pad, pad), (pad, pad)))
    truth = np.pad(~layers()["air"], ((0, 0), (pad, pad), (pad, pad)))
    assert np.mean(head_mask(data) != truth) < 0.005


def test_percentile_map_and_its_inverse():
    data = mr()
    units, scale = PercentileIntensity().forward(data)
    inside = data > 0.03 * scale
    assert scale == pytest.approx(np.percentile(data[inside], 99.5), rel=0.01)
    np.testing.assert_allclose(PercentileIntensity().inverse(units), data * 1000 / scale, rtol=1e-5)
    np.testing.assert_array_equal(PercentileIntensity(unit=50).inverse([0.0, 1.0]), [0, 50])


def test_hounsfield_map_and_its_inverse():
    units, span = HounsfieldIntensity().forward(np.array([-3024, -1000, 0, 2060, 3000]))
    np.testing.assert_allclose(units, [0, 0, 1000 / 3060, 1, 1], rtol=1e-6)
    assert span == 3060
    inside = np.array([-1000.0, 35, 2060])
    back = HounsfieldIntensity().inverse(HounsfieldIntensity().forward(inside)[0])
    np.testing.assert_allclose(back, inside, atol=1e-3)


@pytest.mark.parametrize("kept", [PercentileIntensity(99, 255), HounsfieldIntensity(-1024, 1000)])
def test_maps_survive_their_dictionary(kept):
    assert intensity_map(kept.to_dict()) == kept


@pytest.mark.parametrize(
    "described",
    [{}, {"kind": "magic"}, {"kind": "percentile", "unit": "big"}, {"kind": "percentile", "x": 1}],
)
def test_unknown_maps_are_refused(described):
    with pytest.raises(InvalidCard):
        intensity_map(described)
