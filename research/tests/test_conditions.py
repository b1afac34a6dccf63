"""Conditions of the baselines, and the noise levels of their training."""

from __future__ import annotations

import math

import pytest
import torch
from midiffusion.diffusion.conditioning import LMICondition, LMISettings
from midiffusion_research.training.conditions import DroppedCondition, NoCondition, draw_sigma

SETTINGS = LMISettings(
    dilations=(1, 2), bandwidths=(0.05,), cross_dilations=(1,), cross_sigma_max=0.5
)


def test_missing_and_dropped_conditions_are_zero():
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    condition = LMICondition(images, SETTINGS)
    dropped = DroppedCondition(condition, torch.zeros(3)).select(slice(1, 3))
    none = NoCondition(SETTINGS.channels).select(slice(1, 3)).channels(images[1:], 0.1)
    assert none.abs().max() == 0 and none.equal(dropped.channels(images[1:], 0.1))
    some = DroppedCondition(condition, torch.tensor([1.0, 0.0, 1.0])).channels(images, 0.1)
    assert some[1].abs().max() == 0
    torch.testing.assert_close(some[[0, 2]], condition.channels(images, 0.1)[[0, 2]])


def test_noise_levels_are_log_normal_within_their_range():
    uniform = (torch.arange(4000) + 0.5) / 4000
    sigma = draw_sigma(uniform, -0.5, 1.6, 0.01, 40.0)
    assert float(sigma.min()) == pytest.approx(0.01) and float(sigma.max()) == pytest.approx(40)
    log = sigma.log()
    assert float(log.median()) == pytest.approx(-0.5, abs=0.01)
    assert float((log < -0.5 - 1.6).float().mean()) == pytest.approx(0.1587, abs=0.01)
    assert math.isclose(float(log[-1]), math.log(40.0), rel_tol=1e-5)
