"""Synthetic heads: planes of label maps, signals of tissues, pairs of source and targets."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelmaps import labels, saveLabelMap
from midiffusion.errors import InvalidData
from midiffusion.training.label_planes import PlaneSettings, draw_planes, read_label_maps
from midiffusion.training.synthetic_heads import CONTRASTS, SyntheticHeads
from midiffusion.training.tissues import (
    SIGNALS,
    TissueTable,
    fluid_null_ms,
    inversion_recovery,
    spin_echo,
)

TISSUES = TissueTable.read()
PLAIN = SyntheticHeads(
    stripped=0, lesions=0, ct=0, rician=0, ghost=0, cut=0, mixture=0, noise=0, bias=0
)
STILL = PlaneSettings(
    thickness_mm=0, rotation_deg=0, tilt_deg=0, scale=0, aspect=0, deformation_mm=0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    saveLabelMap(folder / "head.nii.gz")
    return read_label_maps(folder, TISSUES)


@pytest.fixture(scope="module")
def planes(maps):
    return draw_planes(maps, TISSUES, 24, generator())


def flat(name: str, count: int = 1) -> torch.Tensor:
    """Planes of one tissue, with air round it."""
    codes = torch.zeros(count, 32, 32, 12, dtype=torch.uint8)
    codes[:, 8:24, 8:24] = TISSUES.code(name)
    return codes


def test_signal_equations_against_written_out_numbers():
    t1, t2, pd = torch.tensor([500.0]), torch.tensor([70.0]), torch.tensor([0.77])
    tr, te, ti = (torch.tensor(x) for x in (600.0, 10.0, 900.0))
    expected = 0.77 * (1 - math.exp(-600 / 500)) * math.exp(-10 / 70)
    assert float(spin_echo(t1, t2, pd, tr, te)) == pytest.approx(expected, rel=1e-5)
    recovered = abs(1 - 2 * math.exp(-900 / 500) + math.exp(-600 / 500))
    expected = 0.77 * recovered * math.exp(-10 / 70)
    assert float(inversion_recovery(t1, t2, pd, tr, te, ti)) == pytest.approx(expected, rel=1e-5)


def test_fluid_has_no_signal_at_its_null():
    tr = torch.tensor(9000.0)
    code = TISSUES.code("cerebrospinal fluid")
    values = (x[code] for x in (TISSUES.t1_ms, TISSUES.t2_ms, TISSUES.proton_density))
    assert float(inversion_recovery(*values, tr, torch.tensor(100.0), fluid_null_ms(tr))) < 1e-4


def test_bone_and_air_are_dark_in_every_sequence():
    for name, signal in SIGNALS.items():
        times = iter(torch.tensor(x) for x in (9000.0, 110.0, 900.0))
        middle = lambda low, high, times=times: torch.tensor((low + high) / 2)  # noqa: E731
        shown = signal(TISSUES.t1_ms, TISSUES.t2_ms, TISSUES.proton_density, middle)
        white = float(shown[TISSUES.code("cerebral white matter")])
        assert float(shown[TISSUES.code("cortical bone")]) < 0.15 * white, name
        assert float(shown[0]) == 0, name


def test_tissues_of_one_name_share_their_group():
    left, right = TISSUES.freesurfer.index(2), TISSUES.freesurfer.index(41)
    assert int(TISSUES.group[right]) == left
    assert TISSUES.intracranial[left] and not TISSUES.intracranial[TISSUES.code("skin")]


def test_planes_show_every_orientation(maps):
    """Axial planes through the middle are wider from front to back; coronal ones are not."""
    found = draw_planes(maps, TISSUES, 60, generator(3), STILL)
    assert found.shape == (60, 128, 128, 12) and found.dtype == torch.uint8
    head = (found != 0).any(dim=3)
    heights, widths = head.any(dim=2).sum(dim=1), head.any(dim=1).sum(dim=1)
    ratio = heights / widths
    # Extents of the phantom: R-L 64, A-P 76, S-I 60 voxels.
    for expected in (76 / 64, 60 / 64, 60 / 76):
        assert ((ratio / expected - 1).abs() < 0.04).any()


def test_thick_planes_mix_parallel_samples(maps):
    thin = draw_planes(maps, TISSUES, 8, generator(1), replace(STILL, thickness_mm=0))
    by_plane = thin.view(8, 128, 128, 3, 4)
    assert all(torch.equal(by_plane[..., 0, :], by_plane[..., n, :]) for n in (1, 2))
    thick = draw_planes(maps, TISSUES, 8, generator(1), replace(STILL, thickness_mm=6))
    by_plane = thick.view(8, 128, 128, 3, 4)
    assert not torch.equal(by_plane[..., 0, :], by_plane[..., 2, :])


def test_fat_lies_below_the_skin(planes):
    fat = (planes == TISSUES.code("fat")).float().mean()
    muscle = (planes == TISSUES.code("muscle")).float().mean()
    assert float(fat) > 0 and float(muscle) > 0


def test_targets_are_the_signals_of_their_tissue():
    """Fluid has 1 in T2 and PD by definition, and CT is (HU + 1000) / 3060."""
    planes = flat("cerebrospinal fluid", 6)
    _, targets, _ = PLAIN.draw(planes, TISSUES, generator())
    inside = targets[:, :, 16, 16]
    for contrast in ("t2", "pd"):
        assert torch.allclose(inside[:, CONTRASTS.index(contrast)], torch.ones(6), atol=1e-5)
    hu = float(TISSUES.ct_hu[TISSUES.code("cerebrospinal fluid")])
    assert torch.allclose(inside[:, -1], torch.full((6,), (hu + 1000) / 3060), atol=1e-5)
    assert float(inside[:, CONTRASTS.index("flair")].mean()) < 0.2  # nulled, but for jitter
    assert float(targets[:, :, 0, 0].max()) == 0


def test_source_and_targets_are_aligned(planes):
    """Without blur of a target, its edges lie where the labels change; the source's nearby."""
    source, targets, brain = PLAIN.draw(planes, TISSUES, generator())
    head = (planes != 0).any(dim=3)
    assert torch.equal(targets[:, -1] > 0.01, head)
    edges = (brain[:, 0, :, 1:] - brain[:, 0, :, :-1]).abs() > 0.5
    steps = (source[:, 0, :, 1:] - source[:, 0, :, :-1]).abs()
    assert float(steps[edges].mean()) > 3 * float(steps[:, 40:90][~edges[:, 40:90]].mean())


def test_source_contrast_is_random_and_targets_are_not(planes):
    same = planes[:1].expand(16, -1, -1, -1)
    source, targets, _ = PLAIN.draw(same, TISSUES, generator(5))
    assert float(source.std(dim=0).max()) > 0.25
    assert float(targets.std(dim=0).max()) < 0.25


def test_ranges(planes):
    source, targets, brain = SyntheticHeads().draw(planes, TISSUES, generator())
    for image in (source, targets):
        assert float(image.min()) >= 0 and float(image.max()) <= 1.25
    assert float(brain.min()) >= 0 and float(brain.max()) <= 1
    assert source.shape == (24, 1, 128, 128) and targets.shape == (24, 5, 128, 128)


def test_shares_of_stripped_heads_and_lesions():
    planes = flat("muscle", 400)
    source, targets, _ = replace(PLAIN, stripped=0.15).draw(planes, TISSUES, generator())
    share = float((targets[:, -1, 16, 16] == 0).float().mean())
    assert abs(share - 0.15) < 0.06

    planes = flat("cerebral white matter", 200)
    plain = PLAIN.draw(planes, TISSUES, generator(2))[1]
    marked = replace(PLAIN, lesions=0.35).draw(planes, TISSUES, generator(2))[1]
    flair = CONTRASTS.index("flair")
    # A plane of one tissue is flat unless it has a lesion.
    uneven = [
        float(x[:, flair, 9:23, 9:23].flatten(1).std(1).gt(0.02).float().mean())
        for x in (plain, marked)
    ]
    assert uneven[0] == 0 and abs(uneven[1] - 0.35) < 0.12


def test_same_seed_gives_the_same_pairs(planes):
    first, again, other = (SyntheticHeads().draw(planes, TISSUES, generator(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_freesurfer_labels_are_read_as_codes(tmp_path):
    codes = labels()
    saveLabelMap(tmp_path / "codes" / "a.nii.gz", codes)
    table = np.array(TISSUES.freesurfer)
    saveLabelMap(tmp_path / "freesurfer" / "a.nii.gz", table[codes].astype(np.int16))
    by_code, by_label = (read_label_maps(tmp_path / n, TISSUES)[0] for n in ("codes", "freesurfer"))
    assert torch.equal(by_code.codes, by_label.codes)


def test_bad_label_maps_are_named(tmp_path):
    with pytest.raises(InvalidData, match="holds no label maps"):
        read_label_maps(tmp_path, TISSUES)
    strange = labels().astype(np.int16)
    strange[30, 30, 30] = 999
    saveLabelMap(tmp_path / "strange.nii.gz", strange)
    with pytest.raises(InvalidData, match="no label"):
        read_label_maps(tmp_path, TISSUES)
    (tmp_path / "strange.nii.gz").unlink()
    saveLabelMap(tmp_path / "empty.nii.gz", np.zeros((9, 9, 9), np.uint8))
    with pytest.raises(InvalidData, match="not a whole head"):
        read_label_maps(tmp_path, TISSUES)
    (tmp_path / "empty.nii.gz").write_bytes(b"no image")
    with pytest.raises(InvalidData, match="cannot be read"):
        read_label_maps(tmp_path, TISSUES)
