"""Volume.check: what can't be translated says so, each with its own sentence."""

from __future__ import annotations

import numpy as np
import pytest
from midiffusion.errors import InvalidVolume
from midiffusion.images.volume import Volume

RAMP = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def _with(index: tuple[int, ...], value: float) -> np.ndarray:
    data = RAMP.astype(np.float32)
    data[index] = value
    return data


def _affine(**changes: float) -> np.ndarray:
    matrix = np.diag([0.5, 2.0, 3.0, 1.0])
    for place, value in changes.items():
        matrix[int(place[1]), int(place[2])] = value
    return matrix


def test_spacing_is_along_i_j_k_whatever_the_rotation():
    angle = 0.3
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * [0.5, 2.0, 3.0]
    volume = Volume(RAMP, matrix)
    assert volume.spacing_mm == pytest.approx((0.5, 2.0, 3.0))
    volume.check()


@pytest.mark.parametrize("data", [RAMP, RAMP.astype(np.uint8), RAMP > 3, RAMP.astype(np.float64)])
def test_real_number_types_are_accepted(data):
    Volume(data, np.eye(4)).check()


def test_nan_of_a_source_and_sheared_axes_are_accepted():
    """NaN is air; the slices of a tilted gantry are translated in their own plane."""
    Volume(_with((0, 0, 0), np.nan), np.eye(4)).check(nan_is_air=True)
    Volume(RAMP, _affine(m02=1.5)).check()


def test_directions_rounded_to_float32_are_not_shear():
    angle = 0.7
    matrix = _affine()
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    Volume(RAMP, matrix.astype(np.float32)).check()


BAD = {
    "dimensions": (RAMP[None], np.eye(4)),
    "empty": (RAMP[:0], np.eye(4)),
    "not real numbers": (RAMP.astype(complex), np.eye(4)),
    "Every voxel of the volume is NaN": (RAMP * np.nan, np.eye(4)),
    "contains NaN": (_with((0, 0, 0), np.nan), np.eye(4)),
    "infinite values": (_with((1, 2, 3), -np.inf), np.eye(4)),
    "too large": (_with((0, 0, 0), 1e30), np.eye(4)),
    "constant": (np.full((2, 2, 2), 7), np.eye(4)),
    "not 4 x 4": (RAMP, np.eye(3)),
    "geometry contains NaN": (RAMP, _affine(m03=np.nan)),
    "not affine": (RAMP, _affine(m30=0.1)),
    "spacing is": (RAMP, _affine(m11=0.0)),
    "almost in one plane": (RAMP, _affine(m01=8.0)),
    "more than any anatomy": (RAMP, np.diag([300.0, 300.0, 5.0, 1.0])),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_volume_is_refused_in_its_own_words(words):
    data, matrix = BAD[words]
    with pytest.raises(InvalidVolume, match=words) as caught:
        Volume(data, matrix).check()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert caught.value.code == "invalid-volume"


def test_a_mask_is_a_volume_but_no_source():
    mask = Volume(np.repeat(RAMP > 3, 20_000, axis=2), np.eye(4))
    mask.check()
    with pytest.raises(InvalidVolume, match="2 values only .0, 1.: that is a mask"):
        mask.check_source()
    picture = np.random.default_rng(0).integers(0, 12, mask.data.shape).astype(np.uint8)
    Volume(picture, np.eye(4)).check_source()
