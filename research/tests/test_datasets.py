"""The data sets on miniatures that are written here from the description of the formats alone."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
import SimpleITK
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion_research.datasets import DATASETS, dataset
from midiffusion_research.datasets.collections import SYNTHRAD_PIXEL_MM
from midiffusion_research.datasets.subject import area_average, head_mask
from PIL import Image

SPLITS = json.loads(
    resources.files("midiffusion_research.datasets").joinpath("splits.json").read_text()
)


def _paste(path, tiles):
    """RGB tiles below one another, as a lossless WebP."""
    side = len(tiles[0])
    sheet = Image.new("RGB", (side, side * len(tiles)))
    for row, tile in enumerate(tiles):
        sheet.paste(Image.fromarray(tile, "RGB"), (0, row * side))
    sheet.save(path, lossless=True, exact=True)


def _tile(side, red, green, blue=0, box=(0.25, 0.75)):
    """A square head of constant channels in the middle of air."""
    tile = np.zeros((side, side, 3), dtype=np.uint8)
    low, high = (round(side * edge) for edge in box)
    tile[low:high, low:high] = red, green, blue
    return tile


@pytest.fixture
def tcga(tmp_path):
    folder = tmp_path / "tcga_lgg"
    folder.mkdir()
    for number, subject in enumerate(SPLITS["tcga_lgg"]["val"]):
        second = _tile(128, 51, 255)
        second[60:70, 60:70, 2] = 255
        _paste(folder / f"{subject}.webp", [_tile(128, 100 + number, 204), second])
    return tmp_path


@pytest.fixture
def synthrad(tmp_path):
    folder = tmp_path / "synthrad2023_brain"
    folder.mkdir()
    ids = sorted(SPLITS["synthrad2023_brain"]["val"] + SPLITS["synthrad2023_brain"]["train"])
    tiles = [_tile(192, 86, number + 1) for number in range(len(ids))]
    for part, (low, high) in enumerate(((0, 50), (50, 100), (100, len(ids)))):
        _paste(folder / f"axial_{part}.webp", tiles[low:high])
    (folder / "axial_ids.json").write_text(json.dumps(ids))
    return tmp_path, ids


def _write_volume(path, values, spacing=(1.0, 1.0, 3.0)):
    image = SimpleITK.GetImageFromArray(values.astype(np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin((-20.0, 10.0, 5.0))
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture
def openms(tmp_path):
    folder = tmp_path / "openms_wholehead"
    folder.mkdir()
    values = np.zeros((4, 20, 16))
    values[:, 4:16, 4:12] = 102
    _write_volume(folder / "p01_T1.nii.gz", values)
    _write_volume(folder / "p01_FLAIR.nii.gz", 2 * values)
    _write_volume(folder / "p02_FLAIR.nii.gz", values)
    return tmp_path


def test_no_more_is_read_than_was_asked_for(tcga, openms):
    first = SPLITS["tcga_lgg"]["val"][:3]
    (tcga / "tcga_lgg" / f"{first[2]}.webp").write_bytes(b"no picture")
    found = dataset("tcga-lgg").load(tcga, "t1:flair", "val", 2)
    assert [subject.id for subject in found] == first[:2]
    with pytest.raises(InvalidData, match=first[2]):
        dataset("tcga-lgg").load(tcga, "t1:flair", "val", 3)
    assert len(dataset("openms-wholehead").load(openms, "t1:flair", "val", 5)) == 1


def test_every_data_set_names_bundles_of_its_targets_alone():
    for name in DATASETS:
        data = dataset(name)
        assert set(data.bundles) <= {direction.split(":")[1] for direction in data.directions}
    assert not dataset("gold-atlas").bundles  # those that ship are of heads


def test_tcga_gives_channels_masks_and_the_frozen_subjects(tcga):
    for root in (tcga, tcga / "tcga_lgg"):
        subjects = dataset("tcga-lgg").load(root, "t1:flair", "val")
        assert [s.id for s in subjects] == SPLITS["tcga_lgg"]["val"]
    first = subjects[3]
    assert first.source.data.shape == first.target.shape == (2, 128, 128)
    assert first.source.data[0, 64, 64] == pytest.approx(103 / 255)
    assert first.target[0, 64, 64] == pytest.approx(204 / 255)
    assert first.head.sum() == 2 * 64 * 64 and first.head[0, 64, 64] and not first.head[0, 0, 0]
    assert first.tumour.sum() == 100 and first.tumour[1, 65, 65]
    assert not first.contiguous
    first.source.check()
    reverse = dataset("tcga-lgg").load(tcga, "flair:t1", "val")[3]
    np.testing.assert_array_equal(reverse.target, first.source.data)
    np.testing.assert_array_equal(reverse.source.data, first.target)


def test_synthrad_finds_each_subject_across_the_parts(synthrad):
    root, ids = synthrad
    subjects = dataset("synthrad2023-brain").load(root, "mr:ct", "val")
    assert [s.id for s in subjects] == SPLITS["synthrad2023_brain"]["val"]
    for subject in subjects:
        assert subject.source.data.shape == (1, 128, 128)
        assert subject.source.data[0, 64, 64] == pytest.approx((ids.index(subject.id) + 1) / 255)
        assert subject.target[0, 64, 64] == pytest.approx(86 / 255)
    assert subjects[0].source.modality == "MR"
    assert subjects[0].head.sum() == 64 * 64
    # The grid of 128 pixels has the extent of the stored 192.
    extent = 192 * SYNTHRAD_PIXEL_MM
    assert subjects[0].source.spacing_mm[0] * 128 == pytest.approx(extent)


def test_openms_pairs_volumes_with_their_geometry(openms):
    (subject,) = dataset("openms-wholehead").load(openms, "t1:flair", "val")
    assert subject.id == "p01" and subject.contiguous
    assert subject.target.max() == pytest.approx(204 / 255)
    assert subject.head.sum() == 4 * 12 * 8
    np.testing.assert_allclose(subject.source.spacing_mm, (1, 1, 3))
    np.testing.assert_allclose(subject.source.ijkToRAS[:3, 3], (20, -10, 5))
    assert dataset("openms-wholehead").load(openms, "t1:flair", "train") == []


def test_noise_in_the_air_of_a_volume_is_not_head(openms):
    values = np.random.default_rng(0).integers(0, 16, (4, 60, 60))
    values[:, 20:40, 20:40] = 204
    values[:, 27:33, 27:33] = 12
    _write_volume(openms / "openms_wholehead" / "p01_T1.nii.gz", values)
    _write_volume(openms / "openms_wholehead" / "p01_FLAIR.nii.gz", values)
    (subject,) = dataset("openms-wholehead").load(openms, "t1:flair", "val")
    assert subject.head[:, 20:40, 20:40].all()  # the dark cavity too
    outside = subject.head.copy()
    outside[:, 16:44, 16:44] = False
    assert not outside.any()


def test_wrong_folders_and_directions_have_their_sentences(tcga, synthrad, openms, tmp_path):
    for name in DATASETS:
        data = dataset(name)
        with pytest.raises(InvalidParameter, match="no direction 'us:ct'"):
            data.load(tmp_path, "us:ct", "val")
        with pytest.raises(InvalidData, match="--data"):
            data.load(tmp_path / "nowhere", data.directions[0], "val")
    with pytest.raises(InvalidParameter, match="tcga-lgg"):
        dataset("imagenet")
    missing = SPLITS["tcga_lgg"]["val"][5]
    (tcga / "tcga_lgg" / f"{missing}.webp").unlink()
    with pytest.raises(InvalidData, match=f"lacks 1 of 14 files.*{missing}"):
        dataset("tcga-lgg").load(tcga, "t1:flair", "val")


def test_broken_files_have_their_sentences(tcga, synthrad, openms):
    broken = tcga / "tcga_lgg" / f"{SPLITS['tcga_lgg']['val'][0]}.webp"
    broken.write_bytes(b"RIFF no picture")
    with pytest.raises(InvalidData, match=broken.name):
        dataset("tcga-lgg").load(tcga, "t1:flair", "val")
    root, ids = synthrad
    dropped = SPLITS["synthrad2023_brain"]["val"][0]
    listed = root / "synthrad2023_brain" / "axial_ids.json"
    listed.write_text(json.dumps([f"x{s}" if s == dropped else s for s in ids]))
    with pytest.raises(InvalidData, match=dropped):
        dataset("synthrad2023-brain").load(root, "mr:ct", "val")
    listed.write_text("{")
    with pytest.raises(InvalidData, match="axial_ids.json"):
        dataset("synthrad2023-brain").load(root, "mr:ct", "val")
    _write_volume(openms / "openms_wholehead" / "p01_T1.nii.gz", np.ones((4, 20, 17)))
    with pytest.raises(InvalidData, match="not on one grid"):
        dataset("openms-wholehead").load(openms, "t1:flair", "val")


def test_area_average_is_exact_and_the_same_in_two_steps():
    image = np.random.default_rng(0).random((2, 192, 192))
    blocks = image.reshape(2, 64, 3, 64, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(area_average(image, 64), blocks, atol=1e-6)
    np.testing.assert_allclose(area_average(area_average(image, 128), 64), blocks, atol=1e-6)
    row = np.tile([[3.0, 6.0, 12.0]], (3, 1))
    np.testing.assert_allclose(area_average(row, 2)[0], [(3 + 3) / 1.5, (3 + 12) / 1.5])
    with pytest.raises(ValueError, match="down to"):
        area_average(image, 200)


def test_head_masks_follow_the_protocol():
    target = np.zeros((1, 10, 10), dtype=np.float32)
    target[0, 2:8, 2:8] = 1.0
    target[0, 0, 0], target[0, 0, 1] = 0.031, 0.029
    assert head_mask(target, "FLAIR").sum() == 37
    # -490 and -510 HU in model units.
    target[0, 0, 0], target[0, 0, 1] = 510 / 3060, 490 / 3060
    assert head_mask(target, "CT").sum() == 37


def test_a_smaller_subject_stays_where_it_was_in_the_patient(tcga):
    subject = dataset("tcga-lgg").load(tcga, "t1:flair", "val")[0]
    small = subject.at(64)
    assert small.target.shape == (2, 64, 64) and small.head.sum() == 2 * 32 * 32
    np.testing.assert_allclose(small.target[0, 16:48, 16:48], 204 / 255, rtol=1e-6)
    corner = small.source.ijkToRAS @ [0, 0, 1, 1]
    between = subject.source.ijkToRAS @ [0.5, 0.5, 1, 1]
    np.testing.assert_allclose(corner, between)
    assert small.tumour.sum() == 25


def test_some_of_the_slices_are_evenly_spaced_and_stay_where_they_were(openms):
    (subject, *_) = dataset("openms-wholehead").load(openms, "t1:flair", "val")
    subject.target[:] += np.arange(4, dtype=np.float32)[:, None, None]
    for count, kept in ((1, [2]), (2, [1, 3])):
        few = subject.some(count)
        np.testing.assert_array_equal(few.target, subject.target[kept])
        np.testing.assert_array_equal(few.head, subject.head[kept])
        np.testing.assert_array_equal(few.source.data, subject.source.data[kept])
        for number, slice_ in enumerate(kept):
            here = few.source.ijkToRAS @ [3, 4, number, 1]
            np.testing.assert_allclose(here, subject.source.ijkToRAS @ [3, 4, slice_, 1])
        assert subject.contiguous and not few.contiguous
    assert subject.some(4) is subject and subject.some(9) is subject


def test_the_tumour_stays_with_its_slice(tcga):
    subject = dataset("tcga-lgg").load(tcga, "t1:flair", "val")[0]
    assert subject.some(1).tumour.sum() == subject.tumour[1].sum() == 100
