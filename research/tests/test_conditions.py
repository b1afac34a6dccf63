"""Conditions of the baselines, and the noise levels of their training."""

from __future__ import annotations

import math

import pytest
import torch
from midiffusion_research.training.conditions import NoCondition, draw_sigma


def test_no_condition_is_zero():
    state = torch.rand(3, 1, 16, 16)
    maps = NoCondition(2).select(slice(1, 3)).channels(state[1:], 0.1)
    assert maps.shape == (2, 2, 16, 16) and not maps.any()


def test_noise_levels_are_log_normal_within_their_range():
    uniform = (torch.arange(4000) + 0.5) / 4000
    sigma = draw_sigma(uniform, -0.5, 1.6, 0.01, 40.0)
    assert float(sigma.min()) == pytest.approx(0.01) and float(sigma.max()) == pytest.approx(40)
    log = sigma.log()
    assert float(log.median()) == pytest.approx(-0.5, abs=0.01)
    assert float((log < -0.5 - 1.6).float().mean()) == pytest.approx(0.1587, abs=0.01)
    assert math.isclose(float(log[-1]), math.log(40.0), rel_tol=1e-5)
