"""A head or a brain alone, on phantoms of both in several contrasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion.intensity import CT_WINDOW
from midiffusion.skull import brain_alone

PIXEL_MM = 5 / 3


def alone(stack: torch.Tensor, pixel_mm: float = PIXEL_MM, is_ct: bool = False) -> float:
    """Of slices without padding."""
    rows, columns = (slice(0, size) for size in stack.shape[2:])
    return brain_alone(stack, rows, columns, pixel_mm, is_ct=is_ct)


def slices(
    scalp: float | None, bone: float | None, brain: float, noise: float = 0.0
) -> torch.Tensor:
    """Five of a head with 6 mm of scalp and 6 mm of bone, or of what is left without either."""
    y, x = (torch.arange(128) - 63.5)[:, None], torch.arange(128) - 63.5
    stack = []
    for size in (70.0, 74.0, 76.0, 74.0, 70.0):
        radius = torch.hypot(x / 0.85, y) * PIXEL_MM
        image = torch.where(radius < size - 12, brain, 0.0)
        image[(radius < size - 12) & (radius > size - 15)] *= 0.8  # fluid and cortex
        for value, inner, outer in ((scalp, size - 6, size), (bone, size - 12, size - 6)):
            if value is not None:
                image[(radius >= inner) & (radius < outer)] = value
        stack.append(image)
    made = torch.stack(stack)[:, None]
    random = torch.randn(made.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(made > 0, made + noise * random, made).clamp(min=0)


CONTRASTS = {
    "T1": (0.9, 0.1, 0.45),
    "T2": (0.6, 0.12, 0.5),
    "fat-suppressed FLAIR": (0.25, 0.12, 0.6),
    "PD of a low contrast": (0.7, 0.35, 0.6),
}


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_a_head_of_mr_and_its_brain_alone(name, noise):
    scalp, bone, brain = CONTRASTS[name]
    assert alone(slices(scalp, bone, brain, noise)) == 0
    assert alone(slices(None, None, brain, noise)) == 1


def test_between_both_it_is_a_matter_of_degree():
    """From a ditch half as bright as its sides to none."""
    found = [alone(slices(0.5, ditch, 0.5)) for ditch in (0.2, 0.34, 0.36, 0.4)]
    assert found[0] == 0 and found[-1] == 1
    assert 0 < found[1] < found[2] < 1


def test_pixels_of_another_size_show_the_same():
    scalp, bone, brain = CONTRASTS["T1"]
    for values, expected in (((scalp, bone, brain), 0), ((None, None, brain), 1)):
        fine = torch.nn.functional.interpolate(slices(*values), scale_factor=2)
        assert alone(fine, PIXEL_MM / 2) == expected


def test_a_ct_has_bone_or_has_not():
    skin, bone, brain = (float(np.interp(hu, *CT_WINDOW)) for hu in (-20, 900, 35))
    assert alone(slices(skin, bone, brain), is_ct=True) == 0
    assert alone(slices(None, None, brain), is_ct=True) == 1


def test_where_the_field_of_view_ends_inside_the_brain_is_no_surface():
    """Whatever pads it."""
    cut = slices(*CONTRASTS["T1"])[..., 40:88, 36:92]
    padded = torch.nn.functional.pad(cut, (20, 16, 14, 18))
    rows, columns = slice(14, 62), slice(20, 76)
    assert brain_alone(padded, rows, columns, PIXEL_MM, is_ct=False) == alone(cut) == 0
    one_side = slices(*CONTRASTS["T1"])[..., 50:, :]
    padded = torch.nn.functional.pad(one_side, (0, 0, 30, 0))
    rows, columns = slice(30, 108), slice(0, 128)
    assert brain_alone(padded, rows, columns, PIXEL_MM, is_ct=False) == 0


@pytest.mark.parametrize("is_ct", [True, False])
def test_of_air_and_of_next_to_nothing_nothing_is_said(is_ct):
    stack = torch.zeros(3, 1, 64, 64)
    assert alone(stack, is_ct=is_ct) == 0
    stack[1, 0, 30:33, 30:33] = 0.5
    assert alone(stack, is_ct=is_ct) == 0
    assert alone(stack[:0], is_ct=is_ct) == 0
