"""TCGA-LGG in the layout of kaggle_3m, on a miniature of all validation patients."""

from __future__ import annotations

import json
import shutil
from importlib import resources

import numpy as np
import pytest
from midiffusion.errors import InvalidData
from midiffusion_research.datasets import dataset
from PIL import Image

SPLITS = json.loads(
    resources.files("midiffusion_research.datasets").joinpath("splits.json").read_text()
)
VAL = SPLITS["tcga_lgg"]["val"]
SLICES = 11


def _write(folder, t1, flair, slices=SLICES):
    """A head 180 pixels long, 140 wide, off the middle; slice <i> has a mark of its own."""
    folder.mkdir(parents=True)
    for number in range(1, slices + 1):
        picture, mask = np.zeros((256, 256, 3), np.uint8), np.zeros((256, 256), np.uint8)
        picture[40:220, 50:190] = t1, flair, 90
        picture[60:90, 70:100, :2] = 10 * number, 150  # anterior, left in the picture
        mask[60:90, 70:100] = 255
        Image.fromarray(picture).save(folder / f"{folder.name}_{number}.tif")
        Image.fromarray(mask).save(folder / f"{folder.name}_{number}_mask.tif")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder_round = tmp_path_factory.mktemp("all")
    for patient in [*VAL, "TCGA_XX_0000_19990101"]:
        _write(folder_round / "kaggle_3m" / patient, 120, 200)
    (folder_round / "kaggle_3m" / "data.csv").write_text("Patient\n")
    return folder_round


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "data")


def test_channels_crop_order_and_tumour(root):
    subjects = dataset("kaggle-3m").load(root, "t1:flair", "val")
    assert [s.id for s in subjects] == VAL
    subject = subjects[2]
    assert subject.source.data.shape == (SLICES, 128, 128) and not subject.contiguous
    # 99.5th percentile of T1: the head's 120; numbers sort as numbers, 10 and 11 after 9.
    crop = 180 * 1.1 / 128  # stored pixels per pixel
    row, column = round(64 + (75 - 130) / crop), round(64 + (85 - 120) / crop)
    marks = subject.source.data[:, row, column]
    np.testing.assert_allclose(marks, 10 * np.arange(1, SLICES + 1) / 120, atol=1e-4)
    np.testing.assert_allclose(subject.target[:, row, column], 0.75, atol=1e-4)
    assert subject.source.data[3, 64, 64] == pytest.approx(1) and subject.target[3, 64, 64] == 1
    assert subject.tumour[:, row, column].all()
    assert subject.tumour[0].sum() * crop**2 == pytest.approx(900, rel=0.1)
    assert subject.head[0].sum() * crop**2 == pytest.approx(180 * 140, rel=0.05)
    assert not subject.head[:, 0].any() and not subject.head[:, :, 0].any()
    # The head is 190 mm long.
    assert subject.source.spacing_mm[1] == pytest.approx(190 / 180 * crop, rel=0.02)
    reverse = dataset("kaggle-3m").load(root / "kaggle_3m", "flair:t1", "val")[2]
    np.testing.assert_array_equal(reverse.target, subject.source.data)


def test_at_most_twenty_slices_evenly_spaced(root):
    folder = root / "kaggle_3m" / VAL[0]
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    _write(folder, 120, 200, slices=24)
    subject = dataset("kaggle-3m").load(root, "flair:t1", "val")[0]
    assert len(subject.target) == 20 and subject.id == VAL[0]


def test_wrong_folders_have_their_sentences(root):
    with pytest.raises(InvalidData, match="lacks 69 of the 69 train patients' folders.*--data"):
        dataset("kaggle-3m").load(root, "t1:flair", "train")
    folder = root / "kaggle_3m" / VAL[1]
    mask = folder / f"{VAL[1]}_4_mask.tif"
    mask.rename(folder / "away.png")
    with pytest.raises(InvalidData, match=f"{mask.name} is missing"):
        dataset("kaggle-3m").load(root, "t1:flair", "val")
    mask.write_bytes(b"no picture")
    with pytest.raises(InvalidData, match=f"{mask.name} can't be read"):
        dataset("kaggle-3m").load(root, "t1:flair", "val")
    Image.fromarray(np.zeros((256, 256, 3), np.uint8)).save(mask)
    with pytest.raises(InvalidData, match="3 channels where 1"):
        dataset("kaggle-3m").load(root, "t1:flair", "val")
    (folder / f"{VAL[1]}_4.tif").unlink()
    with pytest.raises(InvalidData, match=f"holds {SLICES - 1} of {SLICES}"):
        dataset("kaggle-3m").load(root, "t1:flair", "val")


def test_flair_in_the_place_of_t1_is_refused(root):
    for number in range(1, SLICES + 1):
        path = root / "kaggle_3m" / VAL[0] / f"{VAL[0]}_{number}.tif"
        picture = np.array(Image.open(path))
        picture[..., 0] = picture[..., 1]
        Image.fromarray(picture).save(path)
    with pytest.raises(InvalidData, match="repeats FLAIR"):
        dataset("kaggle-3m").load(root, "t1:flair", "val")
