"""The tests' own tiny model is one: what it makes of a volume depends on the volume."""

from __future__ import annotations

import numpy as np
from bundles import saveTiny
from midiffusion.model import load_model
from midiffusion.volume import Volume


def test_two_sources_give_two_results(tmp_path):
    model = load_model(saveTiny(tmp_path / "tiny"))
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (3, 40, 36)), indexing="ij")
    head = k**2 / 4 + j**2 + i**2 < 0.8
    patterns = np.sin(7 * i), np.cos(9 * j)
    results = [
        model.translate(
            Volume((500 + 200 * pattern) * head, np.diag([5.0, 5, 5, 1])), steps=3, device="cpu"
        ).volume.data
        for pattern in patterns
    ]
    assert np.abs(results[0] - results[1]).max() > 0.05 * np.ptp(results[0])
