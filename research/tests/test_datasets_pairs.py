"""A plain folder of pairs, written here."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from midiffusion.errors import InvalidData
from midiffusion_research import cli
from midiffusion_research.datasets import dataset
from midiffusion_research.datasets.volumes import in_part

PEOPLE = [f"person_{n}" for n in range(8)]


def _write(path, data, spacing=(2.0, 2.0, 5.0), origin=(-64.0, -64.0, 0.0), dtype=np.int16):
    image = SimpleITK.GetImageFromArray(data.astype(dtype))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    SimpleITK.WriteImage(image, str(path))


def _box(inside, outside=0, shape=(6, 64, 64)):
    data = np.full(shape, float(outside))
    data[:, 8:56, 16:48] = inside
    return data


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, person in enumerate(PEOPLE):
        _write(folder / f"{person}_T2.nii.gz", _box(100 + 10 * number))
        _write(folder / f"{person}_ct.nii.gz", _box(530, -1000))
    _write(folder / "lonely_t2.nii.gz", _box(100))
    (folder / "notes.txt").write_text("nothing")
    return folder


def test_pairs_are_found_whatever_their_case(root):
    parts = {part: dataset("pairs").load(root, "t2:ct", part) for part in ("val", "train")}
    ids = {part: [s.id for s in subjects] for part, subjects in parts.items()}
    assert sorted(ids["val"] + ids["train"]) == PEOPLE and ids["val"] and ids["train"]
    subject = parts["val"][0]
    assert subject.target.shape == (6, 128, 128) and subject.source.modality == "T2"
    # 128 mm wide, so each stored pixel of 2 mm is two of 1 mm; the middle of the box is exact.
    np.testing.assert_allclose(subject.source.spacing_mm, (1, 1, 5))
    assert subject.target[2, 64, 64] == pytest.approx((530 + 1000) / 3060, abs=1e-5)
    assert subject.target[2, 2, 2] == 0 and subject.source.data[2, 64, 64] == pytest.approx(1)
    area = subject.head[2].sum()
    assert area == pytest.approx(32 * 48 * 4, rel=0.06)


def test_the_source_is_resampled_to_the_target_by_the_headers(root):
    shifted = np.full((6, 64, 64), 50.0)
    shifted[:, 30:34, 40:44] = 200  # columns 40 to 43 from 10 mm further left
    for person in PEOPLE:
        _write(root / f"{person}_pd.nii.gz", shifted, origin=(-74.0, -64.0, 0.0))
    subject = dataset("pairs").load(root, "pd:t2", "val")[0]
    lps = np.array([-74 + 2 * 41.5, -64 + 2 * 31.5, 10])
    i, j, k = (np.linalg.inv(subject.source.ijkToRAS) @ [-lps[0], -lps[1], lps[2], 1])[:3]
    bright = np.argwhere(subject.source.data[round(k)] > 0.9 * subject.source.data.max())
    np.testing.assert_allclose(bright.mean(axis=0), [j, i], atol=0.6)


def test_a_target_stored_obliquely_by_sagittal_slices_comes_out_axial(tmp_path):
    """Landmarks keep their places in the patient, whatever the axes of the file."""
    tilt = np.deg2rad(12)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    axes = turn @ np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0.0]])  # columns of LPS directions
    size, steps = np.array([60, 50, 40]), np.array([3.0, 3.0, 4.0])
    origin = np.array([7, -3, 5]) - axes @ ((size - 1) / 2 * steps)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1)
    points = origin + (index * steps) @ axes.T
    spots = {(-30.0, 25.0, 20.0): 900, (35.0, -20.0, -15.0): 300}  # LPS mm: value
    data = np.where((((points - (7, -3, 5)) / (60, 65, 55)) ** 2).sum(-1) < 1, 500, 0)
    for place, value in spots.items():
        data = np.where(np.linalg.norm(points - place, axis=-1) < 14, value, data)
    for person in ("a", "b"):
        for modality in ("t1", "t2"):
            image = SimpleITK.GetImageFromArray(data.T.astype(np.int16))
            image.SetSpacing(steps.tolist())
            image.SetDirection(axes.ravel().tolist())
            image.SetOrigin(origin.tolist())
            SimpleITK.WriteImage(image, str(tmp_path / f"{person}_{modality}.nii.gz"))
    (subject,) = dataset("pairs").load(tmp_path, "t1:t2", "val")
    # Slices 3 mm apart upwards, rows to posterior, columns to the patient's left, all tilted.
    directions = subject.source.ijkToRAS[:3, :3] / subject.source.spacing_mm
    assert (np.diag(directions) * (-1, -1, 1) > 0.97).all()
    np.testing.assert_allclose(subject.source.spacing_mm, (180 / 128, 180 / 128, 3), rtol=1e-6)
    for place, value in spots.items():
        ras = [-place[0], -place[1], place[2], 1.0]
        i, j, k = np.rint(np.linalg.inv(subject.source.ijkToRAS) @ ras)[:3].astype(int)
        assert subject.target[k, j, i] == pytest.approx(value / 900, abs=1e-3)
        assert subject.source.data[k, j, i] == pytest.approx(value / 900, abs=1e-3)


def test_finer_pixels_are_averaged_exactly_and_stay_in_place(tmp_path):
    data = np.random.default_rng(0).integers(200, 1000, (3, 256, 256)).astype(float)
    for person in ("a", "b"):
        for modality in ("t1", "ct"):
            path = tmp_path / f"{person}_{modality}.nii.gz"
            _write(path, data, spacing=(1.0, 1.0, 4.0), origin=(-127.5, -127.5, 7.0))
    (subject,) = dataset("pairs").load(tmp_path, "t1:ct", "val")
    blocks = data.reshape(3, 128, 2, 128, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(subject.target, (blocks + 1000) / 3060, rtol=1e-5)
    # The middle of the first block of four voxels, in RAS.
    np.testing.assert_allclose(subject.source.ijkToRAS[:3, 3], (127, 127, 7), atol=1e-5)
    np.testing.assert_allclose(subject.source.ijkToRAS[:3, :3], np.diag([-2, -2, 4]), atol=1e-5)


def test_the_split_depends_on_the_id_alone():
    many = [f"s{n:03d}" for n in range(500)]
    val = set(in_part(many, "val"))
    assert 70 < len(val) < 130 and val.isdisjoint(in_part(many, "train"))
    assert val | set(in_part(many, "train")) == set(many)
    assert set(in_part(many[::2], "val")) == val & set(many[::2])
    assert in_part(["b"], "val") == ["b"] and in_part(["b"], "train") == []
    # SHA-256 of "abc" begins with ba78: 0.728 of the range, so it trains beside any of the fifth.
    assert "abc" in in_part([*many, "abc"], "train")


def test_wrong_folders_have_their_sentences(root, tmp_path):
    with pytest.raises(InvalidData, match=r"no pair of files <subject>_pd.*9 of t2.*8 of ct"):
        dataset("pairs").load(root, "pd:t2", "val")
    with pytest.raises(InvalidData, match="no .nii.gz file.*--data"):
        dataset("pairs").load(tmp_path, "pd:t2", "val")
    _write(root / "person_0_t2.nii.gz", _box(1))
    with pytest.raises(InvalidData, match="person_0_T2.nii.gz and person_0_t2.nii.gz"):
        dataset("pairs").load(root, "t2:ct", "val")
    (root / "person_0_t2.nii.gz").unlink()
    for person in PEOPLE:
        _write(root / f"{person}_t1.nii.gz", _box(90), origin=(5000.0, 0.0, 0.0))
        _write(root / f"{person}_mr.nii.gz", np.full((6, 64, 64), 3))
    with pytest.raises(InvalidData, match="no slice in common"):
        dataset("pairs").load(root, "t1:t2", "val")
    with pytest.raises(InvalidData, match="_mr.nii.gz.*constant"):
        dataset("pairs").load(root, "mr:t2", "val")


def test_the_table_is_one_command(root, tmp_path, capsys):
    command = ["table", "--dataset", "pairs", "--data", str(root)]
    command += ["--out", str(tmp_path / "out"), "--methods", "identity", "histogram"]
    assert cli.main([*command, "--directions", "t2:ct"]) == 0
    captured = capsys.readouterr()
    assert "pairs t2:ct" in captured.out and "| histogram |" in captured.out
