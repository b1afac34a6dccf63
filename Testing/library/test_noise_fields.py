"""Noise of a stack of slices."""

from __future__ import annotations

import numpy as np
import torch
from midiffusion.diffusion.noise_fields import SharedNoise


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def test_noise_is_white_standard_normal_in_every_slice():
    noise = SharedNoise(0, 0, torch.zeros(6, 1, 96, 96), gap=1.5)(0)
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.std()) - 1) < 0.02
    assert abs(correlation(noise[..., 1:], noise[..., :-1])) < 0.02


def test_near_slices_share_more_noise_than_far_ones():
    def neighbours(gap: float) -> float:
        noise = SharedNoise(0, 0, torch.zeros(2, 1, 96, 96), gap)(0)
        return correlation(noise[0], noise[1])

    assert neighbours(0.0) > 0.999
    assert neighbours(0.2) > neighbours(1.0) + 0.1 > neighbours(9.0) + 0.1


def test_noise_depends_on_seed_sample_and_key_and_not_on_parts():
    like = torch.zeros(5, 1, 32, 32)
    whole = SharedNoise(1, 0, like, 1.0)(2)
    parts = SharedNoise(1, 0, like, 1.0)
    assert torch.equal(torch.cat([parts(2, slice(0, 2)), parts(2, slice(2, 5))]), whole)
    for other in (SharedNoise(2, 0, like, 1.0)(2), SharedNoise(1, 1, like, 1.0)(2)):
        assert abs(correlation(other, whole)) < 0.1
    assert abs(correlation(SharedNoise(1, 0, like, 1.0)(3), whole)) < 0.1
