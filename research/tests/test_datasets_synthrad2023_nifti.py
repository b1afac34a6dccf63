"""SynthRAD2023 brain as distributed, on a miniature of all validation subjects."""

from __future__ import annotations

import json
import shutil
from importlib import resources

import numpy as np
import pytest
import SimpleITK
from midiffusion.errors import InvalidData
from midiffusion_research.datasets import dataset

SPLITS = json.loads(
    resources.files("midiffusion_research.datasets").joinpath("splits.json").read_text()
)
VAL = SPLITS["synthrad2023_brain"]["val"]


def _write(path, data, dtype):
    image = SimpleITK.GetImageFromArray(data.astype(dtype))
    image.SetSpacing((4.0, 4.0, 6.0))
    image.SetOrigin((-100.0, -120.0, 30.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder_round = tmp_path_factory.mktemp("all")
    for number, subject in enumerate([*VAL, "1BC999"]):
        ct, mr, mask = np.full((8, 60, 50), -1000.0), np.zeros((8, 60, 50)), np.zeros((8, 60, 50))
        ct[:, 10:50, 10:40], mr[:, 10:50, 10:40] = 40 + number, 300
        ct[2:6, 20:26, 12:18], mr[2:6, 20:26, 12:18] = 1200, 60  # anterior, the patient's right
        ct[:, 55:58, :], mr[:, 55:58, :] = 2000, 900  # a couch, outside the outline
        mask[:, 9:51, 9:41] = 1
        folder = folder_round / "Task1" / "brain" / subject
        _write(folder / "ct.nii.gz", ct, np.int16)
        _write(folder / "mr.nii.gz", mr, np.int16)
        _write(folder / "mask.nii.gz", mask, np.uint8)
    return folder_round


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "data")


def _at(subject, stack, lps):
    ras = np.array([-lps[0], -lps[1], lps[2], 1.0])
    i, j, k = np.rint(np.linalg.inv(subject.source.ijkToRAS) @ ras)[:3].astype(int)
    return stack[k, j, i]


def _lps(i, j, k):
    return -100 + 4 * i, -120 + 4 * j, 30 + 6 * k


def test_whole_heads_of_the_frozen_subjects(root):
    subjects = dataset("synthrad2023-nifti").load(root, "mr:ct", "val")
    assert [s.id for s in subjects] == VAL
    for number, subject in enumerate(subjects):
        assert subject.target.shape == (8, 128, 128) and subject.contiguous
        hu = subject.target * 3060 - 1000
        bone, brain, couch = _lps(14.5, 22.5, 3.5), _lps(30, 40, 3), _lps(25, 56, 3)
        assert _at(subject, hu, bone) == pytest.approx(1200, abs=1)
        assert _at(subject, hu, brain) == pytest.approx(40 + number, abs=1)
        assert _at(subject, hu, couch) == pytest.approx(-1000, abs=1)
        # The percentile is that of the outline: the couch, three times as bright, is not in it.
        assert _at(subject, subject.source.data, brain) == pytest.approx(1)
        assert _at(subject, subject.source.data, bone) == pytest.approx(0.2)
        assert _at(subject, subject.source.data, couch) == 0
        assert _at(subject, subject.head, brain) and not _at(subject, subject.head, couch)
    assert subjects[0].source.ijkToRAS[2, 3] == pytest.approx(30)
    reverse = dataset("synthrad2023-nifti").load(root / "Task1" / "brain", "ct:mr", "val")[0]
    np.testing.assert_array_equal(reverse.target, subjects[0].source.data)


def test_wrong_folders_have_their_sentences(root):
    with pytest.raises(InvalidData, match=r"lacks 360 of the 360 files of the train.*ct.nii.gz"):
        dataset("synthrad2023-nifti").load(root, "mr:ct", "train")
    mask = root / "Task1" / "brain" / VAL[3] / "mask.nii.gz"
    _write(mask, np.eye(60, 49)[None] * np.ones((8, 1, 1)), np.uint8)
    with pytest.raises(InvalidData, match="not on one grid"):
        dataset("synthrad2023-nifti").load(root, "mr:ct", "val")
    mask.unlink()
    with pytest.raises(InvalidData, match=f"lacks 1 of the 72 files.*{VAL[3]}/mask.nii.gz"):
        dataset("synthrad2023-nifti").load(root, "mr:ct", "val")
