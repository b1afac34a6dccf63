"""CuRIOUS on a miniature in the layout of RESECT."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK
from midiffusion.errors import InvalidData
from midiffusion_research.datasets import dataset

CASES = ("Case1", "Case2", "Case12", "Case23")
TUMOUR = np.array([30.0, 20.0, 10.0])  # LPS mm
SHIFT = np.array([4.0, -3.0, 2.0])  # of the T1 scan


def _write(path, values, shift=(0, 0, 0), turned=False):
    """A ball of head with a smaller one in it; `turned`: stored with rows upwards and columns to
    the right, so that only the header tells the sides."""
    size, step = 54, 4.0
    sign = np.array([-1.0, -1.0, 1.0]) if turned else np.ones(3)
    first = -sign * (size - 1) / 2 * step
    z, y, x = np.meshgrid(
        *(first[axis] + sign[axis] * step * np.arange(size) for axis in (2, 1, 0)), indexing="ij"
    )
    points = np.stack([x, y, z], -1) - np.array(shift)
    data = np.where(np.linalg.norm(points / (1.0, 1.2, 1.0), axis=-1) < 75, values[0], 0)
    data = np.where(np.linalg.norm(points - (-20, -30, 0), axis=-1) < 22, values[2], data)
    data = np.where(np.linalg.norm(points - TUMOUR, axis=-1) < 26, values[1], data)
    image = SimpleITK.GetImageFromArray(data.astype(np.float32))
    image = SimpleITK.DiscreteGaussian(image, 0.7)
    image.SetSpacing([step] * 3)
    image.SetDirection(np.diag(sign).ravel().tolist())
    image.SetOrigin(first.tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curious")
    for case in CASES:
        mri = folder / "NIFTI" / case / "MRI"
        _write(mri / f"{case}-FLAIR.nii.gz", (300, 600, 100), turned=True)
        _write(mri / f"{case}-T1.nii.gz", (500, 200, 800), shift=SHIFT)
        ultrasound = mri.parent / "US" / f"{case}-US-before.nii.gz"
        ultrasound.parent.mkdir()
        ultrasound.write_bytes(b"not read")
    return folder


@pytest.fixture
def root(written, tmp_path, monkeypatch):
    monkeypatch.setenv("MIDIFFUSION_CACHE", str(written / "cache"))
    return shutil.copytree(written / "NIFTI", tmp_path / "RESECT" / "NIFTI").parent


def _at(subject, stack, lps):
    ras = np.array([-lps[0], -lps[1], lps[2], 1.0])
    i, j, k = np.rint(np.linalg.inv(subject.source.ijkToRAS) @ ras)[:3].astype(int)
    return stack[k, j, i]


def test_t1_comes_to_the_slices_of_flair(root):
    subjects = [
        s for part in ("val", "train") for s in dataset("curious").load(root, "t1:flair", part)
    ]
    assert sorted(s.id for s in subjects) == sorted(CASES)
    subject = subjects[0]
    assert subject.contiguous and subject.source.modality == "T1"
    np.testing.assert_allclose(subject.source.ijkToRAS[:3, :3], np.diag([-1.875, -1.875, 4]))
    for place, t1, flair in ((TUMOUR, 200, 600), ((-20, -30, 0), 800, 100), ((0, 50, 0), 500, 300)):
        assert _at(subject, subject.source.data, place) == pytest.approx(t1 / 800, abs=0.06)
        assert _at(subject, subject.target, place) == pytest.approx(flair / 600, abs=0.06)
    # At the edge of the tumour too: the shift of 5.4 mm between the scans is gone.
    edge = TUMOUR + (20, 0, 0), TUMOUR - (20, 0, 0), TUMOUR + (0, 20, 0), TUMOUR - (0, 20, 0)
    for place in edge:
        assert _at(subject, subject.source.data, place) == pytest.approx(0.25, abs=0.1)
    reverse = dataset("curious").load(root, "flair:t1", "val")[0]
    np.testing.assert_array_equal(reverse.target, subject.source.data)
    np.testing.assert_array_equal(reverse.source.data, subject.target)


def test_the_split_is_by_case_and_stays(root):
    parts = [[s.id for s in dataset("curious").load(root, "t1:flair", p)] for p in ("val", "train")]
    assert parts == [["Case1"], ["Case12", "Case2", "Case23"]]
    shutil.rmtree(root / "NIFTI" / "Case1")
    with pytest.raises(InvalidData, match="holds Case12, Case2, Case23 and none of the val cases"):
        dataset("curious").load(root, "t1:flair", "val")


def test_wrong_folders_have_their_sentences(root, tmp_path):
    with pytest.raises(InvalidData, match="holds no Case<n>/MRI/Case<n>-T1.nii.gz.*--data"):
        dataset("curious").load(tmp_path / "nowhere", "t1:flair", "val")
    lacking = root / "NIFTI" / "Case12" / "MRI" / "Case12-T1.nii.gz"
    lacking.rename(tmp_path / "away.nii.gz")
    with pytest.raises(InvalidData, match="incomplete: Case12 lacks T1"):
        dataset("curious").load(root, "t1:flair", "val")
    _write(root / "Case1-T1.nii.gz", (1, 2, 3))
    with pytest.raises(InvalidData, match="Case1-T1.nii.gz is there twice"):
        dataset("curious").load(root, "t1:flair", "val")
