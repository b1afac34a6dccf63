"""IXI on a miniature: a head of ellipsoids with a known shift of the T1 scan."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import SimpleITK
from bundles import saveTiny
from midiffusion.errors import InvalidData, UnwritableTarget
from midiffusion.images.volume import Volume
from midiffusion.models import registry
from midiffusion.models.card import ModelCard
from midiffusion.training import command, look_fit
from midiffusion_research import cli
from midiffusion_research.datasets import dataset, registration

# Ellipsoids in patient coordinates (LPS, mm): centre, half axes.
SKULL = ((0, 4, 0), (68, 88, 74))
BRAIN = ((0, 4, 2), (60, 78, 66))
VENTRICLE = ((12, -8, 6), (20, 28, 16))  # the patient's left, anterior
TUMOUR = ((-28, 34, 22), (16, 12, 14))  # the patient's right, posterior, superior
CONTRAST = {"PD": (500, 800, 950, 700), "T2": (200, 400, 1000, 650), "T1": (900, 600, 150, 350)}
SHIFT = np.array([3.2, -2.6, 4.1])  # of the T1 scan's patient, LPS mm
ANGLE = np.deg2rad(4)  # about the superior axis
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
SUBJECTS = ("IXI002-Guys-0828", "IXI012-HH-1211", "IXI025-Guys-0852", "IXI035-IOP-0873")


def _head(points, values):
    """Intensities at LPS points [..., 3]: the last ellipsoid that a point lies in counts."""
    image = np.zeros(points.shape[:-1])
    for (centre, half), value in zip((SKULL, BRAIN, VENTRICLE, TUMOUR), values, strict=True):
        image[(((points - centre) / half) ** 2).sum(-1) < 1] = value
    return image


def _write(path, modality, moved=False, sagittal=False, gain=1.0):
    """PD and T2 axial, 2 x 2 x 4 mm; T1 sagittal, 2.4 mm slices of 2 x 2 mm, as from a scanner."""
    if sagittal:  # columns to posterior, rows to inferior, slices to the patient's right
        axes, steps, size = (
            np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0.0]]),
            (2, 2, 2.4),
            (110, 96, 70),
        )
    else:
        axes, steps, size = np.eye(3), (2, 2, 4), (100, 110, 44)
    half = (np.array(size) - 1) / 2 * steps
    origin = -axes @ half
    i, j, k = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    points = origin + (np.stack([i, j, k], -1) * steps) @ axes.T
    if moved:
        points = (points - SHIFT) @ TURN
    image = SimpleITK.GetImageFromArray(
        (gain * _head(points, CONTRAST[modality])).T.astype(np.int16)
    )
    image = SimpleITK.DiscreteGaussian(SimpleITK.Cast(image, SimpleITK.sitkFloat32), 1.0)
    image.SetSpacing([float(s) for s in steps])
    image.SetDirection(axes.ravel().tolist())
    image.SetOrigin(origin.tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.Cast(image, SimpleITK.sitkInt16), str(path))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("ixi")
    for number, subject in enumerate(SUBJECTS, start=1):
        _write(root / "IXI-PD" / f"{subject}-PD.nii.gz", "PD", gain=number)
        _write(root / "IXI-T1" / f"{subject}-T1.nii.gz", "T1", moved=True, sagittal=True)
    _write(root / "IXI-T2" / f"{SUBJECTS[0]}-T2.nii.gz", "T2")
    _write(root / "IXI-PD" / "IXI999-HH-0001-PD.nii.gz", "PD")
    return root


@pytest.fixture(autouse=True)
def remembered(tmp_path_factory, monkeypatch):
    """One folder for all tests of this file: each pair is registered once."""
    folder = tmp_path_factory.getbasetemp() / "ixi-cache"
    monkeypatch.setenv("MIDIFFUSION_CACHE", str(folder))
    return folder


def _at(subject, stack, lps):
    """The value of the stack at a point of the patient, nearest pixel."""
    ras = np.array([-lps[0], -lps[1], lps[2], 1.0])
    i, j, k = np.rint(np.linalg.inv(subject.source.ijkToRAS) @ ras)[:3].astype(int)
    return stack[k, j, i]


def test_slices_show_the_patient_where_the_headers_put_him(root):
    (subject,) = dataset("ixi").load(root, "pd:t2", "val")
    np.testing.assert_array_equal(subject.source.ijkToRAS[:3, :3], np.diag([-1.875, -1.875, 4]))
    assert subject.id == SUBJECTS[0] and subject.contiguous
    assert subject.source.data.shape[1:] == (128, 128)
    # Row 0 anterior, column 0 the patient's right, slices upwards, at the places of the files.
    assert subject.source.ijkToRAS[2, 3] % 4 == pytest.approx(-86 % 4)
    for place, pd, t2 in ((VENTRICLE, 950, 1000), (TUMOUR, 700, 650), (BRAIN, 800, 400)):
        point = place[0] if place is not BRAIN else (-30, -40, -20)
        # The 99.5th percentile in the head is (about) the brightest tissue, whatever the gain.
        assert _at(subject, subject.source.data, point) == pytest.approx(pd / 950, abs=0.03)
        assert _at(subject, subject.target, point) == pytest.approx(t2 / 1000, abs=0.03)
    assert _at(subject, subject.head, TUMOUR[0]) and not subject.head[:, 0].any()


def test_t1_is_registered_and_remembered(root, remembered, monkeypatch):
    subjects = dataset("ixi").load(root, "pd:t1", "val")
    subject = subjects[0]
    assert _at(subject, subject.target, VENTRICLE[0]) == pytest.approx(150 / 900, abs=0.03)
    assert _at(subject, subject.target, TUMOUR[0]) == pytest.approx(350 / 900, abs=0.03)
    files = list((remembered / "rigid").iterdir())
    assert all(file.suffix == ".json" for file in files) and len(files) >= len(subjects)
    with monkeypatch.context() as patched:
        patched.setattr(registration, "rigid", lambda *_: pytest.fail("registered once more"))
        again = dataset("ixi").load(root, "t1:pd", "val")[0]
    np.testing.assert_array_equal(again.source.data, subject.target)
    for file in files:
        file.write_text("{")  # as after a crash: registered anew
    dataset("ixi").load(root, "pd:t1", "val")
    assert any(file.read_text() != "{" and json.loads(file.read_text()) for file in files)


def test_a_known_shift_is_recovered_to_less_than_half_a_voxel(root):
    from midiffusion.images.io import read_volume

    fixed = read_volume(root / "IXI-PD" / f"{SUBJECTS[0]}-PD.nii.gz")
    moving = read_volume(root / "IXI-T1" / f"{SUBJECTS[0]}-T1.nii.gz")
    motion = registration.rigid(moving, fixed)
    flip = np.array([-1, -1, 1])
    for centre, half in (SKULL, VENTRICLE, TUMOUR):
        for corner in (np.array(centre), np.array(centre) + half, np.array(centre) - half):
            wanted = flip * (TURN @ corner + SHIFT)
            found = (motion @ [*(flip * corner), 1.0])[:3]
            assert np.linalg.norm(found - wanted) < 1.0  # half of 2 mm
    np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-9)


def test_training_takes_spaced_slices_of_the_other_subjects(root):
    val = {s.id for s in dataset("ixi").load(root, "t1:pd", "val")}
    train = dataset("ixi").load(root, "t1:pd", "train")
    assert val | {s.id for s in train} == set(SUBJECTS) and not val & {s.id for s in train}
    assert all(10 <= len(s.target) <= 20 and not s.contiguous for s in train)
    np.testing.assert_allclose(train[0].source.spacing_mm, (1.875, 1.875, 8))
    assert _at(train[0], train[0].target, (-28, 34, 22)) == pytest.approx(700 / 950, abs=0.05)


def test_wrong_folders_have_their_sentences(root, tmp_path, monkeypatch):
    with pytest.raises(InvalidData, match=r"4 files IXI\*-T1.*0 files IXI\*-T2.*IXI-T2.tar"):
        (root / "IXI-T2" / f"{SUBJECTS[0]}-T2.nii.gz").rename(tmp_path / "away.nii.gz")
        try:
            dataset("ixi").load(root, "t1:t2", "val")
        finally:
            (tmp_path / "away.nii.gz").rename(root / "IXI-T2" / f"{SUBJECTS[0]}-T2.nii.gz")
    broken = tmp_path / "IXI002-Guys-0828-PD.nii.gz"
    broken.write_bytes(b"no image")
    _write(tmp_path / "IXI002-Guys-0828-T1.nii.gz", "T1")
    with pytest.raises(InvalidData, match=broken.name):
        dataset("ixi").load(tmp_path, "pd:t1", "val")
    monkeypatch.setenv("MIDIFFUSION_CACHE", str(broken / "below-a-file"))
    with pytest.raises(UnwritableTarget, match="MIDIFFUSION_CACHE"):
        registration._remember(registration.memory() / "x.json", np.eye(4), [])


def test_images_that_do_not_overlap_are_refused(root):
    from midiffusion.images.io import read_volume

    fixed = root / "IXI-PD" / f"{SUBJECTS[0]}-PD.nii.gz"
    volume = read_volume(fixed)
    away = volume.ijkToRAS + np.outer([500, 0, 0, 0], [0, 0, 0, 1])
    with pytest.raises(InvalidData, match="can't be registered"):
        registration.registered(Volume(volume.data, away), volume, (fixed, fixed))


def test_the_table_needs_one_command(root, tmp_path, monkeypatch, capsys):
    """Both ways; nobody has a model of PD, so one is trained first, once. Here without the packages
    of the Frechet distance."""
    _ship_t1(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    out = tmp_path / "out"
    words = ["table", "--dataset", "ixi", "--data", str(root), "--out", str(out)]
    # What makes it quick, and no more: a researcher leaves it out.
    words += ["--methods", "identity", "midiffusion", "--budget", "0.2", "--learn-size", "64"]
    words += ["--steps", "1", "--device", "cpu"]
    assert cli.main(words) == 0
    first = capsys.readouterr()
    for direction in ("pd:t1", "t1:pd"):
        assert f"ixi {direction}, 128 x 128 pixels, 2 subjects" in first.out
        assert (out / f"ixi_{direction.replace(':', '-')}.png").is_file()
    assert first.out.count("| identity |") == first.out.count("| midiffusion |") == 6
    assert "| MIDiffusion (unsup) (paper) | 0.11 |" in first.out
    assert "- midiffusion: model ixi-pd, weights" in first.out
    assert "Flicker" in first.out and "subjects read" in first.err
    assert "Frechet" not in first.out and "no Frechet distance: " in first.err
    models = {path.name.split("_")[0]: path for path in (out / "models").iterdir()}
    assert set(models) == {"ixi-pd"}
    card = ModelCard.read(models["ixi-pd"] / "card.json")
    assert card.id == "ixi-pd" and card.draws_samples
    assert not list(out.rglob("*.mha")) and not list(out.rglob("*.part*"))
    assert not list(out.rglob("images"))
    monkeypatch.setattr(command, "main", None)
    assert cli.main(words) == 0
    again = capsys.readouterr()
    assert again.out == first.out and again.err.count("kept from an earlier run") == 4


def _ship_t1(tmp_path, monkeypatch):
    """A tiny backbone and a model of T1 in place of those that ship."""
    saveTiny(tmp_path / "shipped" / "t1", id="t1", pixel_mm=190 / 114)
    monkeypatch.setattr(registry, "shipped_folder", lambda: tmp_path / "shipped")
    monkeypatch.setattr(look_fit, "_LEAST_PIXELS", 1)


def test_a_model_of_the_target_needs_two_subjects(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "shipped_folder", lambda: tmp_path / "none")
    command = ["table", "--dataset", "ixi", "--data", str(root), "--subjects", "1"]
    command += ["--out", str(tmp_path / "out"), "--methods", "midiffusion"]
    assert cli.main(command) != 0
    assert "no model of T1 for ixi, and 1 training" in capsys.readouterr().err
    assert not (tmp_path / "out" / "models").exists()
