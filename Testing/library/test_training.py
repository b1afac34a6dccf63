"""Training: data layouts, averaging, and a run that stops, resumes and improves."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from midiffusion.arguments import UsageError
from midiffusion.errors import DiskFull, InvalidData, InvalidParameter, UnwritableTarget
from midiffusion.io import write_volume
from midiffusion.model import load_model
from midiffusion.training import loop
from midiffusion.training.cli import _configuration, main
from midiffusion.training.configuration import CONFIGS, TrainingConfig
from midiffusion.training.data import SliceSource, frozen_split, load_slices, read_sprite
from midiffusion.training.ema import PowerAverage, exponent_from_width
from midiffusion.volume import Volume
from PIL import Image
from toys import head

TINY = {
    "network": {"channels": [8, 16], "embedding": 16},
    "lmi": {"dilations": [1], "bandwidths": [0.1], "cross_dilations": []},
    "size": 32,
    "pixel_mm": 6.0,
    "batch": 8,
    "precision": "float32",
}


@pytest.fixture
def volumes(tmp_path):
    """Twelve small volumes, one of which ("volume00") is held back for validation."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    affine = np.diag([-3.0, -3.0, 5.0, 1.0])
    for index in range(12):
        data = np.stack([head(64, index + 0.3 * k) for k in range(4)]) * 900
        write_volume(folder / f"volume{index:02d}.nii.gz", Volume(data.astype(np.float32), affine))
    return folder


@pytest.fixture
def config_file(tmp_path):
    values = json.loads((CONFIGS / "flair.json").read_text()) | TINY
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    return path


def test_splits_are_frozen_and_divide_subjects():
    for collection, sizes in {"tcga_lgg": (69, 14), "synthrad2023_brain": (120, 24)}.items():
        train, val = frozen_split(collection)
        assert (len(train), len(val)) == sizes
        assert not set(train) & set(val)


def test_sprites_give_the_training_subjects_only(tmp_path):
    train, val = frozen_split("tcga_lgg")
    folder = tmp_path / "tcga_lgg"
    folder.mkdir()
    grey_air = train[2]  # as in three patients' T1: left out
    for subject, grey in ((train[0], 51), (train[1], 102), (grey_air, 77), (val[0], 204)):
        tiles = np.zeros((3, 128, 128, 3), np.uint8)
        tiles[:, 32:96, 32:96, 1] = grey
        if subject == grey_air:
            tiles[..., 1] = grey
        tiles = tiles.reshape(3 * 128, 128, 3)
        Image.fromarray(tiles).save(folder / f"{subject}.webp", lossless=True)
    source = SliceSource("tcga_lgg", "FLAIR")
    wanted = {"pixel_mm": 190 / 114, "size": 128, "intensity": {}, "orientation": "axial"}
    for part, greys in (("train", {0.2, 0.4}), ("val", {0.8})):
        slices = load_slices(tmp_path, source, part=part, **wanted)
        assert {round(float(v), 3) for v in slices.images[:, 64, 64]} == greys
        assert len(slices.subjects) == len(slices.images) == 3 * len(greys)
    with pytest.raises(InvalidData, match="no channel 'T2'"):
        load_slices(tmp_path, SliceSource("tcga_lgg", "T2"), part="train", **wanted)


def test_a_sprite_of_other_tiles_is_refused(tmp_path):
    Image.fromarray(np.zeros((100, 128, 3), np.uint8)).save(tmp_path / "a.webp")
    with pytest.raises(InvalidData, match="128 x 128 tiles"):
        read_sprite(tmp_path / "a.webp", 128)


def test_volumes_are_split_by_subject_and_scaled(volumes):
    kind = {"kind": "percentile", "percentile": 99.5, "unit": 1000.0}
    wanted = {"pixel_mm": 6.0, "size": 32, "intensity": kind, "orientation": "axial"}
    train = load_slices(volumes, SliceSource("volumes"), part="train", **wanted)
    val = load_slices(volumes, SliceSource("volumes"), part="val", **wanted)
    assert set(val.subjects) == {"volume00.nii.gz", "volume10.nii.gz"}
    assert not set(train.subjects) & set(val.subjects)
    assert len(train.images) == 40 and train.images.shape[1:] == (32, 32)
    assert float(np.percentile(train.images, 99)) == pytest.approx(1.0, abs=0.1)


def test_plain_slices_are_grouped_by_subject(tmp_path):
    for subject in ("anna", "bert"):
        for index in range(3):
            picture = (head(32, index) * 255).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / f"{subject}_{index}.png")
    kind = {"kind": "percentile", "percentile": 99.5, "unit": 1000.0}
    slices = load_slices(
        tmp_path,
        SliceSource("slices"),
        part="train",
        pixel_mm=1.0,
        size=48,
        intensity=kind,
        orientation="axial",
    )
    assert set(slices.subjects) == {"bert"} and slices.images.shape == (3, 48, 48)


def test_power_average_has_the_width_it_was_asked_for():
    """Weights of the average over past steps, found by feeding unit impulses, against the width."""
    gamma = exponent_from_width(0.1)
    steps = 4000
    beta = (1 - 1 / np.arange(1, steps + 1)) ** (gamma + 1)
    weight = (1 - beta) * np.append(np.cumprod(beta[::-1])[::-1][1:], 1.0)
    t = np.arange(1, steps + 1) / steps
    mean = (weight * t).sum()
    assert weight.sum() == pytest.approx(1.0)
    assert np.sqrt((weight * (t - mean) ** 2).sum()) == pytest.approx(0.1, rel=0.01)


def test_power_average_of_constant_weights_is_that_constant(config_file):
    model = loop.build_denoiser(TrainingConfig.read(config_file), 0.3)
    average = PowerAverage(model, 0.1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
    for step in range(1, 4):
        average.update(model, step)
    for parameter in average.average.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.25))


def test_a_run_learns_and_leaves_a_model_that_loads(volumes, config_file, tmp_path, monkeypatch):
    out = tmp_path / "model"
    arguments = ["--target", "mine", "--data", str(volumes), "--config", str(config_file)]
    arguments += ["--out", str(out), "--max-minutes", "10", "--device", "cpu"]
    steps = iter(range(1, 200))
    # So many steps, however fast the computer is.
    monkeypatch.setattr(loop, "REPORT_S", 0.0)
    assert main(arguments, stop=lambda: next(steps) == 120) == 0
    loss = np.genfromtxt(out / "log.csv", delimiter=",", names=True)["loss"]
    assert len(loss) == 120
    assert loss[-30:].mean() < 0.9  # 1 is what an untrained network has
    model = load_model(out)
    assert (model.card.id, model.card.training["subjects"]) == ("mine", 10)
    assert model.card.pixel_mm == 6.0 and model.card.target_modality == "FLAIR"
    assert not list(out.glob("*.part*"))


@pytest.mark.parametrize("target, modality", [("ct", "CT"), ("pet", "pet")])
def test_own_images_claim_nothing_of_the_shipped_data(
    volumes, target, modality, monkeypatch, tmp_path
):
    """The card of a model of the user's own images has neither our data nor our licence in it."""
    quick = dataclasses.replace(
        TrainingConfig.for_own_images(target), network=TINY["network"], size=32, batch=4
    )
    monkeypatch.setattr(TrainingConfig, "for_own_images", classmethod(lambda cls, name: quick))
    out = tmp_path / "own"
    assert (
        main(
            ["--target", target, "--data", str(volumes), "--out", str(out), "--max-minutes", "0.01"]
        )
        == 0
    )
    text = (out / "card.json").read_text()
    assert not any(word in text for word in ("TCGA", "SynthRAD", "CC BY", "glioma"))
    assert load_model(out).card.target_modality == modality


@pytest.mark.parametrize(
    "target, change, sentence",
    [
        ("My Model", {}, "'id'"),
        ("mine", {"network": {"depth": 3}}, "depth"),
        ("mine", {"lmi": {"window": 3}}, "window"),
        ("mine", {"card": {"title": "x"}}, "training_data"),
    ],
)
def test_what_makes_no_model_is_refused_before_training(
    volumes, config_file, tmp_path, target, change, sentence
):
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | change))
    arguments = ["--target", target, "--data", str(volumes), "--config", str(config_file)]
    with pytest.raises(InvalidParameter, match=sentence):
        main([*arguments, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_log_follows_subjects_held_back(volumes, config_file, tmp_path):
    config = dataclasses.replace(
        TrainingConfig.read(config_file), sources=(SliceSource("volumes"),)
    )
    state = loop.train(config, volumes, tmp_path, max_minutes=0.02)
    log = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    images = torch.from_numpy(loop.load_all(config, volumes, "val").images)[:, None]
    again = loop.validation_loss(config, images, state, torch.device("cpu"))
    assert float(np.atleast_1d(log["validation_loss"])[-1]) == pytest.approx(again, abs=1e-4)
    assert loop.validation_loss(config, images[:0], state, torch.device("cpu")) is None


def test_a_resumed_run_goes_on_where_it_stopped(volumes, config_file, tmp_path):
    config = dataclasses.replace(
        TrainingConfig.read(config_file), sources=(SliceSource("volumes"),)
    )
    first = loop.train(config, volumes, tmp_path, max_minutes=0.02)
    second = loop.train(config, volumes, tmp_path, max_minutes=0.02, resume=True)
    # The budget is of the whole run: nothing was left, nothing was trained, all was restored.
    assert second.step == first.step
    for a, b in zip(first.denoiser.parameters(), second.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert torch.equal(first.generator.get_state(), second.generator.get_state())
    moments = [
        [state.optimiser.state[p]["exp_avg_sq"] for p in state.denoiser.parameters()]
        for state in (first, second)
    ]
    torch.testing.assert_close(moments[0], moments[1])
    third = loop.train(config, volumes, tmp_path, max_minutes=0.04, resume=True)
    assert third.step > first.step
    other = dataclasses.replace(config, learning_rate=1e-4)
    with pytest.raises(InvalidParameter, match="another configuration"):
        loop.train(other, volumes, tmp_path, max_minutes=0.1, resume=True)


def test_a_run_that_is_stopped_keeps_its_last_step(volumes, config_file, tmp_path):
    config = dataclasses.replace(
        TrainingConfig.read(config_file), sources=(SliceSource("volumes"),)
    )
    asked, saved = iter([False, False, True]), []
    state = loop.train(
        config,
        volumes,
        tmp_path,
        max_minutes=10,
        on_checkpoint=lambda state: saved.append(state.step),
        stop=lambda: next(asked),
    )
    assert (state.step, saved) == (3, [3])
    asked = iter([True])
    again = loop.train(
        config, volumes, tmp_path, max_minutes=10, resume=True, stop=lambda: next(asked)
    )
    assert again.step == 4


def test_the_first_checkpoint_comes_early(volumes, config_file, tmp_path, monkeypatch):
    config = dataclasses.replace(
        TrainingConfig.read(config_file), sources=(SliceSource("volumes"),)
    )
    steps, saved = iter(range(100)), []
    monkeypatch.setattr(loop, "FIRST_CHECKPOINT_S", 0.0)
    loop.train(
        config,
        volumes,
        tmp_path,
        max_minutes=10,
        on_checkpoint=lambda state: saved.append(state.step),
        stop=lambda: next(steps) == 4,
    )
    assert saved == [1, 5]  # the first, and that of the stop: the second is two minutes away


def test_an_output_that_cannot_be_written_is_told(volumes, config_file, tmp_path, monkeypatch):
    words = ["--target", "x", "--data", volumes, "--config", config_file, "--device", "cpu"]
    words = [*map(str, words), "--max-minutes", "0.001", "--out"]
    with pytest.raises(UnwritableTarget, match="name another folder with --out"):
        main([*words, str(config_file / "below")])

    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull, match="go on with --resume"):
        main([*words, str(tmp_path / "run")])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.csv"]


def test_nothing_to_resume(volumes, config_file, tmp_path):
    config = dataclasses.replace(
        TrainingConfig.read(config_file), sources=(SliceSource("volumes"),)
    )
    with pytest.raises(InvalidParameter, match="nothing to resume"):
        loop.train(config, volumes, tmp_path / "new", resume=True)


@pytest.mark.parametrize(
    "change, sentence",
    [({"colour": 1}, "colour"), ({"sources": [{"wrong": 1}]}, "wrong")],
)
def test_wrong_configurations_are_named(config_file, change, sentence):
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | change))
    with pytest.raises(InvalidParameter, match=sentence):
        TrainingConfig.read(config_file)


def test_unknown_targets_name_the_known_ones():
    with pytest.raises(InvalidParameter, match="flair"):
        TrainingConfig.for_target("pet")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_configuration_makes_a_model(path):
    config = TrainingConfig.read(path)
    x = torch.zeros(1, 1, 32, 32)
    denoiser = loop.build_denoiser(config, 0.3)
    assert (
        denoiser(x, 1.0, torch.zeros(1, denoiser.network.config.cond_channels, 32, 32)).shape
        == x.shape
    )


def test_a_configuration_extends_another():
    lite, base = TrainingConfig.for_target("flair"), TrainingConfig.for_target("flair_base")
    assert base.card == lite.card and base.sources == lite.sources
    assert base.network["blocks"] == 2 and lite.network["blocks"] == 1


def test_a_target_of_one_s_own_may_take_a_shipped_one_s_settings(volumes, tmp_path):
    config = _configuration(None, "mine", "ct", "volumes")
    assert config.intensity == TrainingConfig.for_target("ct").intensity
    assert (config.card["title"], config.card["target_modality"]) == ("mine, own images", "CT")
    assert "SynthRAD" not in json.dumps(config.to_dict())
    arguments = ["--target", "mine", "--data", str(volumes), "--out", str(tmp_path / "out")]
    with pytest.raises(InvalidParameter, match="'pet' is shipped"):
        main([*arguments, "--like", "pet"])
    with pytest.raises(UsageError, match="not allowed with"):
        main([*arguments, "--like", "ct", "--config", "a.json"])
    assert not (tmp_path / "out").exists()
