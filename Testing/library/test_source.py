"""What models take of a volume."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from midiffusion import head as head_module
from midiffusion.grid import SliceGrid
from midiffusion.intensity import SourceIntensity
from midiffusion.source import Source
from midiffusion.volume import Volume
from toys import anatomy, noisy


def test_an_mr_without_much_noise_is_on_its_scale_and_no_more():
    data = 700 * noisy(anatomy(), 0.01)
    volume = Volume(data, np.diag([1.5, 1.5, 5.0, 1.0]), "T1")
    source = Source.of(volume)
    np.testing.assert_array_equal(source.units, SourceIntensity().forward(data)[0])
    assert not source.is_ct and source.noise == pytest.approx(0.01, rel=0.4)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_noise_is_taken_out_in_the_slices_as_they_were_acquired(axes):
    clean = anatomy()
    data = 700 * noisy(clean, 0.06)
    spacing = np.array([1.5, 1.5, 5.0])  # i, j, k
    straight = Source.of(Volume(data, np.diag([*spacing, 1.0]), "T1"))
    turned = Volume(
        np.ascontiguousarray(np.transpose(data, axes)),
        np.diag([*spacing[::-1][list(axes)][::-1], 1.0]),
        "T1",
    )
    # In the plane of a slice rows may have become columns, and sums another order.
    expected = np.transpose(straight.units, axes)
    np.testing.assert_allclose(Source.of(turned).units, expected, atol=2e-3)
    assert straight.noise == pytest.approx(0.06 / clean.max(), rel=0.2)
    left = (straight.units - clean / clean.max())[clean > 0]
    assert left.std() < 0.75 * straight.noise


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((1, 96, 96), (1.5, 1.5, 1.0)), ((6, 96, 96), (1.0003, 1.0, 1.0001))],
    ids=["one slice, thinner than its pixels", "as good as cubic"],
)
def test_what_can_only_be_slices_are(shape, spacing):
    data = 700 * noisy(anatomy(shape[0]), 0.06)
    source = Source.of(Volume(data, np.diag([*spacing, 1.0]), "T1"))
    straight = Source.of(Volume(data, np.diag([*spacing[:2], 3.0, 1.0]), "T1"))
    np.testing.assert_array_equal(source.units, straight.units)
    assert source.noise > 0.05


def test_the_noise_of_a_ct_is_left_as_it_is():
    random = np.random.default_rng(0).standard_normal((6, 96, 96))
    data = np.where(anatomy() > 0, 40 + 60 * random, -1000).astype(np.float32)
    source = Source.of(Volume(data, np.eye(4), ""))
    assert source.is_ct and source.noise is None
    np.testing.assert_array_equal(source.units, SourceIntensity().forward(data, "CT")[0])


def test_a_ct_is_freed_of_its_couch_in_batches_as_at_once(monkeypatch):
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (7, 64, 64)), indexing="ij")
    head = np.hypot(j + 0.2, i) < 0.3 + 0.05 * k  # another one in every slice
    couch = (j > 0.75) & (j < 0.8)
    units = np.where(head | couch, 0.4, 0.0).astype(np.float32)
    volume = Volume(units, np.diag([-3.0, -3.0, 3.0, 1.0]), "CT")
    grid = SliceGrid.of(volume, 3.0, "axial", 2)
    found = []
    for size in (7, 3, 1):
        monkeypatch.setattr(head_module, "_AT_ONCE", size)
        found.append(Source(units, True, None).slices(grid, 3.0, torch.device("cpu")))
    assert 0 < (found[0] > 0).sum() < (units > 0).sum()
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
