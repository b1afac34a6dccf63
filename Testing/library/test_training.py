"""Training: runs that resume, the look, target bundles, refusals before the first step."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import saveTiny, tinyNetworks
from labelmaps import saveLabelMap
from midiffusion.diffusion.backbone import CONTRASTS, OUTPUTS
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume
from midiffusion.models.bundle import read_backbone
from midiffusion.pipeline.look import apply_look
from midiffusion.pipeline.target import load_model
from midiffusion.training import command
from midiffusion.training.backbone_training import BackboneTraining, BackboneTrainingConfig
from midiffusion.training.data import load_target
from midiffusion.training.look_fit import fit_look, nearest_contrast
from midiffusion.training.loop import CHECKPOINT
from midiffusion.training.residual import RealImages, ResidualTraining, ResidualTrainingConfig
from midiffusion.training.self_made_sources import ct_source, self_made_sources
from midiffusion.training.synthetic_heads import SyntheticHeads
from PIL import Image
from trainingimages import saveVolumes

SMALL = {"channels": (8, 8), "embedding": 16}
PERCENTILE: dict[str, object] = {"kind": "percentile"}


def config(**changes) -> BackboneTrainingConfig:
    values = {"images": 16, "batch": 4, "planes": 6, "network": SMALL, "average": 0.1, **changes}
    return BackboneTrainingConfig(**values)


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    saveLabelMap(folder / "head.nii.gz")
    shutil.copy(folder / "head.nii.gz", folder / "other.nii.gz")  # statistics need two heads
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with tiny models t1 and ct."""
    for name in ("t1", "ct"):
        intensity = {"kind": "hounsfield" if name == "ct" else "percentile"}
        folder = tmp_path / "models" / name
        saveTiny(folder, id=name, contrast=name, intensity=intensity, pixel_mm=2.0)
    return tmp_path / "models"


def ellipses(count: int) -> torch.Tensor:
    """Heads with a bright rim, [count, 1, 128, 128]."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    images = []
    for n in range(count):
        radius = np.hypot(x / 0.7, y / 0.85)
        images.append(
            np.where(radius < 1, 0.5 + 0.3 * (radius > 0.85) + 0.1 * np.sin(9 * x + n), 0)
        )
    return torch.tensor(np.array(images), dtype=torch.float32)[:, None]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_backbone_learns_from_synthetic_heads(heads, tmp_path):
    run = BackboneTraining(config(images=400, learning_rate=3e-3), heads)
    first = run.losses()
    run.run(tmp_path)
    last = run.losses()
    assert len(first) == len(OUTPUTS)
    assert float(last.sum()) < 0.8 * float(first.sum())
    assert int(rows(tmp_path)[-1]["images"]) == 400


def test_resumed_run_equals_an_uninterrupted_one(heads, tmp_path):
    whole = BackboneTraining(config(), heads)
    whole.run(tmp_path / "whole")
    first = BackboneTraining(config(), heads)
    first.run(tmp_path / "parts", stop=lambda: first.step >= 2)
    planes = first.planes
    second = BackboneTraining(config(), heads)
    second.resume(tmp_path / "parts")
    second.planes = planes  # drawn anew otherwise: a checkpoint keeps the network alone
    second.run(tmp_path / "parts")
    assert second.step == whole.step == 4
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoint_of_another_configuration_is_refused(heads, tmp_path):
    BackboneTraining(config(), heads).run(tmp_path)
    with pytest.raises(InvalidParameter, match="another configuration"):
        BackboneTraining(config(learning_rate=1e-4), heads).resume(tmp_path)
    with pytest.raises(InvalidParameter, match="nothing to resume"):
        BackboneTraining(config(), heads).resume(tmp_path / "elsewhere")


def test_real_images_change_their_own_contrast_alone(heads):
    run = BackboneTraining(config(real=4), None, real=ellipses(3), contrast="ct")
    losses = run.losses()
    ct = OUTPUTS.index("ct")
    assert float(losses[ct]) > 0
    assert all(float(loss) == 0 for n, loss in enumerate(losses) if n != ct)


@pytest.mark.slow
def test_residual_training_lowers_its_loss(tmp_path):
    backbone, _, _ = tinyNetworks()
    lmi = load_model(saveTiny(tmp_path / "tiny")).lmi
    settings = ResidualTrainingConfig(images=240, batch=4, learning_rate=3e-3, lmi=lmi, average=0.1)
    run = ResidualTraining(settings, backbone, [RealImages(ellipses(4), "t1", None)])
    before = np.mean([float(run.losses()) for _ in range(8)])
    run.run(tmp_path / "out")
    after = np.mean([float(run.losses()) for _ in range(8)])
    assert after < 0.9 * before


def test_self_made_sources_keep_the_outline_and_have_random_contrast():
    real = ellipses(16)
    drawn = torch.rand(16, len(OUTPUTS), 128, 128, generator=torch.Generator().manual_seed(1))
    drawn = torch.nn.functional.avg_pool2d(drawn, 31, 1, 15) * (real > 0)
    quiet = SyntheticHeads(rician=0, ghost=0, cut=0)
    made = self_made_sources(real, drawn, quiet, torch.Generator().manual_seed(0))
    assert made.shape == real.shape and float(made.min()) >= 0 and float(made.max()) <= 1.25
    assert float(made[:, :, :4].max()) < 0.2  # far from the head there is air and noise alone
    assert float(made[:, 0, 64, 64].std()) > 0.05


def test_ct_is_shown_as_the_pipeline_shows_it():
    from midiffusion.images.intensity import CT_WINDOW

    hu = np.array([-1000.0, -850.0, -100.0, 30.0, 200.0, 1500.0], np.float32)
    shown = ct_source(torch.from_numpy((hu + 1000) / 3060))
    assert np.allclose(shown.numpy(), np.interp(hu, *CT_WINDOW), atol=1e-4)


def test_look_finds_the_function_that_made_the_images():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.rand(4, len(OUTPUTS), 64, 64, generator=generator)
    outputs[:, -1] = (torch.arange(64) < 32).float()
    inside = 0.2 + 0.5 * outputs[:, 3] + 0.3 * outputs[:, 0] * outputs[:, 1]
    images = torch.where(outputs[:, -1] > 0.5, inside, 0.7 * outputs[:, 1])[:, None]
    look = fit_look(images, outputs, "t2")
    made = apply_look(look, outputs, CONTRASTS.index("t2"))
    assert float((made - images).abs().max()) < 0.02


def test_look_of_images_without_brain_is_refused():
    outputs = torch.rand(2, len(OUTPUTS), 32, 32)
    outputs[:, -1] = 0
    with pytest.raises(InvalidData, match="too little brain"):
        fit_look(outputs[:, :1], outputs, "t1")


def test_nearest_contrast_is_the_one_that_the_images_show():
    outputs = torch.rand(3, len(OUTPUTS), 32, 32, generator=torch.Generator().manual_seed(2))
    for index, contrast in enumerate(CONTRASTS[:4]):
        assert nearest_contrast(outputs[:, index : index + 1], outputs) == contrast


def test_target_folder_of_volumes_and_of_slices(tmp_path):
    volumes = load_target(saveVolumes(tmp_path / "volumes"), 3.0, PERCENTILE)
    assert volumes.shape[1:] == (1, 128, 128) and float(volumes.min()) >= 0
    (tmp_path / "volumes" / "._subject0.nii.gz").write_bytes(b"finder")
    assert len(load_target(tmp_path / "volumes", 3.0, PERCENTILE)) == len(volumes)
    folder = tmp_path / "slices"
    folder.mkdir()
    for n, image in enumerate(ellipses(3)):
        Image.fromarray((image[0].numpy() * 200).astype(np.uint8)).save(folder / f"a_{n}.png")
    slices = load_target(folder, 3.0, PERCENTILE)
    assert slices.shape == (3, 1, 128, 128) and 0.9 < float(slices.max()) <= 1.25


def test_unusable_target_folders_are_refused(tmp_path):
    with pytest.raises(InvalidData, match="holds no images"):
        load_target(tmp_path, 2.0, PERCENTILE)
    large = Volume(np.pad(np.ones((2, 100, 100)), ((0, 0), (100, 100), (100, 100))), np.eye(4) * 2)
    write_volume(tmp_path / "large.nrrd", Volume(large.data, np.diag([2.0, 2, 5, 1])))
    with pytest.raises(InvalidData, match="measures 600 mm"):
        load_target(tmp_path, 2.0, PERCENTILE)
    (tmp_path / "large.nrrd").write_bytes(b"no image")
    with pytest.raises(InvalidData, match="large.nrrd can't be trained on"):
        load_target(tmp_path, 2.0, PERCENTILE)


def train(*arguments: object) -> int:
    return command.main([str(word) for word in arguments])


@pytest.mark.slow
def test_backbone_command_leaves_a_backbone_and_resumes(heads, tmp_path, monkeypatch):
    monkeypatch.setattr(
        command, "BackboneTrainingConfig", lambda **values: config(**values, batch=2)
    )
    monkeypatch.setattr(command.BackboneTrainingConfig, "images", 8, raising=False)
    out = tmp_path / "out"
    assert train("--backbone", "--heads", heads, "--out", out, "--images", 8) == 0
    assert {"config.json", "weights.safetensors", CHECKPOINT, "log.csv"} <= {
        p.name for p in out.iterdir()
    }
    assert train("--backbone", "--heads", heads, "--out", out, "--images", 8, "--resume") == 0


def test_own_target_has_its_look_in_seconds(models, tmp_path, monkeypatch):
    monkeypatch.setattr("midiffusion.training.look_fit._LEAST_PIXELS", 1)
    data = saveVolumes(tmp_path / "data")
    out = models / "mine"
    train("--target", "mine", "--data", data, "--start", models, "--out", out, "--max-minutes", 0)
    model = load_model("mine", models)
    assert model.look is not None and model.card.contrast in CONTRASTS[:4]
    assert not model.card.draws_samples


@pytest.mark.slow
def test_target_of_a_new_backbone_has_its_pixel_size(heads, tmp_path, monkeypatch):
    monkeypatch.setattr(
        command, "BackboneTrainingConfig", lambda **values: config(**values, batch=2)
    )
    monkeypatch.setattr(command.BackboneTrainingConfig, "images", 8, raising=False)
    models = tmp_path / "models"
    train("--backbone", "--heads", heads, "--out", models / "backbone", "--images", 8,
          "--pixel-mm", 1.5, "--channels", 8, 16)  # fmt: skip
    data = saveVolumes(tmp_path / "data")
    train("--target", "fine", "--data", data, "--start", models, "--out", models / "fine",
          "--like", "t2", "--no-look", "--max-minutes", 0)  # fmt: skip
    model = load_model("fine", models)
    assert model.card.pixel_mm == 1.5 and model.card.contrast == "t2"
    assert model.backbone.network.config.channels == (8, 16)
    assert load_target(data, 1.5, PERCENTILE).shape[2:] == (144, 144)


def test_own_target_trains_a_denoiser_in_the_time_given(models, tmp_path, monkeypatch):
    monkeypatch.setattr("midiffusion.training.look_fit._LEAST_PIXELS", 1)
    data = saveVolumes(tmp_path / "data")
    out = models / "mine"
    seen = []
    command.main(
        [str(x) for x in ("--target", "mine", "--data", data, "--start", models, "--out", out,
                          "--like", "t1", "--max-minutes", 0.05)],
        on_bundle=lambda *args: seen.append(args),
    )  # fmt: skip
    model = load_model("mine", models)
    assert model.card.draws_samples and model.denoiser is not None and seen
    assert model.card.training["images_seen"] > 0


def test_mr_targets_share_a_denoiser_beside_their_backbone(models, tmp_path):
    data = saveVolumes(tmp_path / "data")
    before = load_model("t1", models)
    out = tmp_path / "new" / "backbone"
    train("--denoiser", f"t1={data}", "--start", models, "--out", out, "--images", 16)
    config, backbone = read_backbone(out)
    assert config.weights_sha256 == before.card.backbone_sha256
    assert config.training["denoiser_images"] == 16
    (out.parent / "t1").mkdir()
    for path in (models / "t1").iterdir():
        (out.parent / "t1" / path.name).write_bytes(path.read_bytes())
    made = load_model(out.parent / "t1").denoiser.state_dict()
    old = before.denoiser.state_dict()
    assert any(not torch.equal(made[name], old[name]) for name in made)


def test_ct_has_no_shared_denoiser(models, tmp_path):
    with pytest.raises(InvalidParameter, match="only MR targets"):
        train("--denoiser", f"ct={tmp_path}", "--start", models, "--out", tmp_path / "out")


def test_own_ct_trains_the_mean(models, tmp_path):
    data = saveVolumes(tmp_path / "data")
    out = models / "myct"
    train("--target", "myct", "--data", data, "--start", models, "--out", out, "--like", "ct",
          "--images", 16)  # fmt: skip
    model = load_model("myct", models)
    assert model.card.contrast == "ct" and model.card.intensity["kind"] == "hounsfield"
    shared = load_model("ct", models).backbone.state_dict()
    assert any(not torch.equal(v, shared[k]) for k, v in model.backbone.state_dict().items())


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--target", "x", "--data", "nowhere"), "nowhere"),
        (("--target", "x", "--data", ".", "--like", "pet"), "pet"),
        (("--target", "x", "--data", ".", "--max-minutes", "-1"), "max-minutes"),
        (("--backbone", "--heads", "nowhere"), "nowhere"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, models, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InvalidData, InvalidParameter), match=sentence):
        train(*arguments, "--start", models, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
