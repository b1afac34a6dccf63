"""Gold Atlas on a miniature of DICOM files, written tag by tag."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from bundles import saveTiny
from midiffusion.errors import InvalidData
from midiffusion.models import registry
from midiffusion.models.card import ModelCard
from midiffusion_research import cli
from midiffusion_research.datasets import dataset

PATIENTS = ("1_01_P", "1_03_P", "2_03_P", "3_01_P")
# LPS mm: centre and half size of a block of bone, the patient's left, posterior, superior.
BONE, HALF = np.array([60.0, 30.0, 12.0]), np.array([25.0, 20.0, 10.0])
SLICES, STEP, PIXEL, SIDE = 12, 5.0, 8.0, 56


def _write_series(folder, number, modality, description, values, origin, pixel, first_down=False):
    """`values` [slice, row, column], upwards; one 16-bit file per slice, CT with an intercept."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, plane in enumerate(values):
        # The writer stores CT 1024 higher, by the intercept below; checked by a test.
        image = SimpleITK.GetImageFromArray(plane.astype(np.int16)[None])
        image.SetSpacing([pixel, pixel, STEP])
        tags = {
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0008|0060": modality,
            "0008|103e": description,
            "0010|0020": folder.name,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.9.{number}",
            "0020|0013": str(len(values) - k if first_down else k + 1),
            "0020|0032": "\\".join(str(x) for x in (*origin[:2], origin[2] + k * STEP)),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024" if modality == "CT" else "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        image.SetOrigin([*origin[:2], origin[2] + k * STEP])
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{modality}.{number}.{(k * 7) % len(values)}.dcm"))
        writer.Execute(image)


def _pelvis(tissue, bone, air, origin, pixel, side, slices):
    """A box of tissue, 240 x 176 mm, with the block of bone in it, and a table below it."""
    z, y, x = np.meshgrid(
        origin[2] + STEP * np.arange(slices),
        origin[1] + pixel * np.arange(side),
        origin[0] + pixel * np.arange(side),
        indexing="ij",
    )
    image = np.full(z.shape, float(air))
    image[(abs(x) < 120) & (abs(y) < 88)] = tissue
    block = (
        (abs(x - BONE[0]) < HALF[0]) & (abs(y - BONE[1]) < HALF[1]) & (abs(z - BONE[2]) < HALF[2])
    )
    image[block] = bone
    if air < 0:
        image[(abs(x) < 180) & (abs(y - 136) < 12)] = -100
    return image


def _write_patient(folder):
    wide = (-220.0, -220.0, -27.5)
    ct = _pelvis(40, 800, -1000, wide, PIXEL, SIDE, SLICES)
    t2 = _pelvis(400, 100, 0, wide, PIXEL, SIDE, SLICES)
    t1 = _pelvis(300, 50, 0, (-220.0, -220.0, -22.5), 4.0, 111, 10)
    scanned = np.roll(ct, 3, axis=2)  # as before the deformable registration
    reverse = folder.name.startswith("2")
    _write_series(folder, 1, "CT", "CT pelvis", scanned, wide, PIXEL)
    _write_series(folder, 2, "CT", "CTtoMR_bspline", ct, wide, PIXEL, first_down=reverse)
    _write_series(folder, 3, "MR", "t2_tse_tra", t2, wide, PIXEL)
    _write_series(folder, 4, "MR", "AX T1", t1, (-220.0, -220.0, -22.5), 4.0)
    (folder / "structures.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "readme.txt").write_text("no picture")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("gold")
    for patient in PATIENTS:
        _write_patient(root / patient)
    (root / "notes_P").mkdir()
    return root


def _at(subject, stack, lps):
    ras = np.array([-lps[0], -lps[1], lps[2], 1.0])
    i, j, k = np.rint(np.linalg.inv(subject.source.ijkToRAS) @ ras)[:3].astype(int)
    return stack[k, j, i]


def _all(root, direction):
    return [
        s for split in ("val", "train") for s in dataset("gold-atlas").load(root, direction, split)
    ]


def test_the_miniature_stores_ct_with_an_intercept(root):
    stored = (root / PATIENTS[0] / "CT.2.0.dcm").read_bytes()[-2:]  # air, the last pixel
    assert int.from_bytes(stored, "little", signed=True) == 24


def test_ct_is_the_registered_one_in_hu_at_its_place(root):
    subjects = _all(root, "t2:ct")
    assert [s.id for s in subjects] == ["1_03_P", "1_01_P", "2_03_P", "3_01_P"]
    for subject in subjects:
        assert subject.source.modality == "T2" and subject.target.shape == (SLICES, 128, 128)
        np.testing.assert_allclose(subject.source.spacing_mm, (3.5, 3.5, STEP))
        assert subject.source.ijkToRAS[2, 3] == pytest.approx(-27.5)
        hu = subject.target * 3060 - 1000
        tissue, air = (-60, -30, 12), (200, 0, 0)
        for place, wanted in ((BONE, 800), (tissue, 40), (air, -1000)):
            assert _at(subject, hu, place) == pytest.approx(wanted, abs=1)
        # Its mirror images are not bone: nothing is flipped.
        for flip in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
            assert _at(subject, hu, BONE * flip) == pytest.approx(40, abs=1)
        assert _at(subject, subject.source.data, BONE) == pytest.approx(0.25, abs=1e-3)
        assert _at(subject, subject.source.data, tissue) == pytest.approx(1, abs=1e-3)


def test_the_table_is_not_body(root):
    subject = _all(root, "t2:ct")[0]
    hu = subject.target * 3060 - 1000
    assert _at(subject, hu, (0, 136, 0)) == pytest.approx(-100, abs=5)
    assert not _at(subject, subject.head, (0, 136, 0)) and _at(subject, subject.head, BONE)
    area = subject.head[5].sum() * 3.5**2
    assert area == pytest.approx(240 * 176, rel=0.05)


def test_t1_on_its_own_grid_comes_to_the_slices_of_t2(root):
    subject = _all(root, "t1:ct")[0]
    # T1 has one slice less at either end: these are left out.
    assert subject.target.shape[0] == 10 and subject.source.ijkToRAS[2, 3] == pytest.approx(-22.5)
    assert _at(subject, subject.source.data, BONE) == pytest.approx(50 / 300, abs=0.02)
    assert _at(subject, subject.source.data, (-60, -30, 12)) == pytest.approx(1, abs=0.02)
    reverse = _all(root, "ct:t1")[0]
    np.testing.assert_array_equal(reverse.target, subject.source.data)


def test_wrong_folders_have_their_sentences(root, tmp_path):
    with pytest.raises(InvalidData, match="no patient's folder such as 1_01_P"):
        dataset("gold-atlas").load(tmp_path, "t2:ct", "val")
    (tmp_path / "1_01_P").mkdir()
    with pytest.raises(InvalidData, match="holds 1_01_P and none of the val patients.*1_03_P"):
        dataset("gold-atlas").load(tmp_path, "t2:ct", "val")
    patient = tmp_path / "1_03_P"
    patient.mkdir()
    with pytest.raises(InvalidData, match="one CT series with 'cttomr'.*holds 0.*no DICOM"):
        dataset("gold-atlas").load(tmp_path, "ct:t1", "val")
    _write_patient(patient)
    for file in patient.glob("CT.2.*"):
        file.unlink()
    with pytest.raises(InvalidData, match=r"holds 0 \(all: .*CT 'CT pelvis', 12 files"):
        dataset("gold-atlas").load(tmp_path, "ct:t2", "val")
    assert len(dataset("gold-atlas").load(tmp_path, "t1:t2", "val")) == 1
    (patient / "MR.3.11.dcm").unlink()  # its sixth slice
    with pytest.raises(InvalidData, match="'t2_tse_tra'.*not evenly spaced"):
        dataset("gold-atlas").load(tmp_path, "t1:t2", "val")


def test_the_table_is_one_command_and_trains_a_model_of_the_pelvis(
    root, tmp_path, monkeypatch, capsys
):
    """The bundles that ship are of heads: none of them is taken, though one makes CT."""
    how = {"contrast": "ct", "intensity": {"kind": "hounsfield"}, "pixel_mm": 190 / 114}
    saveTiny(tmp_path / "shipped" / "ct", id="ct", **how)
    monkeypatch.setattr(registry, "shipped_folder", lambda: tmp_path / "shipped")
    out = tmp_path / "out"
    command = ["table", "--dataset", "gold-atlas", "--data", str(root)]
    command += ["--out", str(out), "--directions", "t2:ct"]
    # What makes it quick, and no more: a researcher leaves it out.
    command += ["--methods", "identity", "midiffusion", "--budget", "0.2", "--learn-size", "64"]
    command += ["--steps", "1", "--slices", "2", "--device", "cpu"]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    assert "gold-atlas t2:ct, 128 x 128 pixels, 1 subject," in text and "MAE head (HU)" in text
    assert "- midiffusion: model gold-atlas-ct, weights" in text
    assert "| MIDiffusion (unsup) (paper) |" in text
    (model,) = (out / "models").iterdir()
    card = ModelCard.read(model / "card.json")
    assert card.target_modality == "CT" and card.pixel_mm == pytest.approx(450 / 128, abs=0.05)
    assert (out / "gold-atlas_t2-ct.png").is_file()
