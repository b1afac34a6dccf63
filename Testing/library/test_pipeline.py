"""The pipeline: what each step does to a volume, and what a translation promises as a whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from midiffusion.errors import Cancelled, InvalidParameter, InvalidVolume, OutOfMemory
from midiffusion.images.volume import Volume
from midiffusion.pipeline.detail import guided_filter, smooth
from midiffusion.pipeline.look import FEATURES, apply_look, features
from midiffusion.pipeline.slice import Slice
from midiffusion.pipeline.translate import OPTIONAL, STEPS
from midiffusion.runtime import batching


def head(shape=(24, 40, 36), spacing=(4.0, 4.0, 4.0), size=0.9) -> Volume:
    """An ellipsoid with a bright rim and a dark core; axes i, j, k along R, A, S."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2) * 0.9 / size
    data = np.where(radius < 0.9, 500 + 300 * (radius > 0.75) - 200 * (radius < 0.3), 0.0)
    return Volume(data.astype(np.float32), np.diag([*spacing, 1.0]), "MR")


def test_result_lies_on_the_grid_of_its_source_and_is_never_negative(model, volume):
    made = model.translate(volume, device="cpu")
    for image in (made.volume, made.error_map):
        assert image.data.shape == volume.data.shape
        assert image.data.dtype == np.float32
        assert np.array_equal(image.ijkToRAS, volume.ijkToRAS)
        assert image.data.min() >= 0
    assert made.volume.data.max() > 100  # nominal units, not model units


def test_same_seed_gives_the_same_result_and_batches_change_nothing(model, volume, monkeypatch):
    first = model.translate(volume, steps=4, seed=3, device="cpu").volume.data
    monkeypatch.setattr(batching, "_CPU_BATCH", 1)
    again = model.translate(volume, steps=4, seed=3, device="cpu").volume.data
    other = model.translate(volume, steps=4, seed=4, device="cpu").volume.data
    assert np.abs(again - first).max() < 0.01
    assert np.abs(other - first).max() > 1


def test_the_mean_needs_no_seed(model, volume):
    results = [model.translate(volume, seed=seed, device="cpu").volume.data for seed in (0, 1)]
    assert np.array_equal(*results)


def test_samples_have_a_deviation_and_one_view_has_no_error_map(model, volume):
    made = model.translate(volume, views=1, steps=3, samples=2, device="cpu")
    assert made.error_map is None
    assert made.deviation is not None and made.deviation.data.max() > 0
    assert model.translate(volume, device="cpu").deviation is None


def test_deviation_is_that_of_the_samples(model, volume):
    """Sample n of a run is the same whatever the number of samples."""
    both = model.translate(volume, steps=2, samples=2, device="cpu")
    one = model.translate(volume, steps=2, samples=1, device="cpu").volume.data
    # Of two values the deviation is sqrt(2) times the distance of either from the mean.
    expected = np.sqrt(2) * np.abs(both.volume.data - one)
    assert np.abs(both.deviation.data - expected).max() < 0.01


def test_air_of_the_source_stays_air(model):
    source = head(size=0.6)
    made = model.translate(source, device="cpu").volume.data
    assert made[:, :3].max() == made[:, :, :3].max() == 0
    assert made[source.data > 0].mean() > 0


def test_mirrored_source_gives_the_mirrored_result(model):
    source = head()
    rng = np.random.default_rng(0)
    data = source.data * rng.uniform(0.8, 1.2, source.data.shape).astype(np.float32)
    plain = model.translate(Volume(data, source.ijkToRAS), views=1, device="cpu").volume.data
    # Index and patient's side mirrored at once: the same head in space, stored the other way round.
    flipped_axes = source.ijkToRAS.copy()
    flipped_axes[0, 0] *= -1
    flipped_axes[0, 3] = source.ijkToRAS[0, 0] * (data.shape[2] - 1)
    stored = Volume(data[:, :, ::-1].copy(), flipped_axes)
    again = model.translate(stored, views=1, device="cpu").volume.data
    assert np.abs(again[:, :, ::-1] - plain).max() < 1e-2 * plain.max()


@pytest.mark.parametrize(
    "spacing, plane",
    [((1, 1, 5), ("axial",)), ((1, 5, 1), ("coronal",)), ((5, 1, 1), ("sagittal",))],
)
def test_thick_slices_are_translated_in_the_plane_of_acquisition(spacing, plane):
    assert Slice().planes(head((24, 24, 24), spacing)) == plane


def test_isotropic_volume_is_cut_in_three_planes_and_a_thin_slab_in_one():
    assert Slice().planes(head((40, 40, 40), (3, 3, 3))) == ("axial", "coronal", "sagittal")
    assert Slice().planes(head((8, 40, 40), (3, 3, 3))) == ("axial",)


def test_oblique_series_keeps_its_plane():
    angle = np.deg2rad(20)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([1.0, 1.0, 5.0])
    assert Slice().planes(Volume(head().data, matrix)) == ("axial",)


def test_provenance_lists_the_steps_and_is_json(model, volume):
    made = model.translate(volume, device="cpu", without=("detail",))
    names = [record["name"] for record in made.provenance["pipeline"]]
    assert "detail" not in names and names[:3] == ["check", "scale", "slice"]
    assert json.loads(json.dumps(made.provenance)) == made.provenance
    assert made.attributes("a.nii")["MIDiffusion.synthetic"] == "1"


def test_only_optional_steps_can_be_left_out(model, volume):
    assert set(OPTIONAL) < {step.name for step in STEPS}
    with pytest.raises(InvalidParameter, match="'mean'"):
        model.translate(volume, without=("mean",))


def test_progress_counts_every_evaluation_of_every_slice(model, volume):
    seen = []
    model.translate(volume, views=2, steps=3, device="cpu", on_progress=seen.append)
    last = {p.step: p for p in seen}
    assert sorted(last) == [1, 2, 3, 4, 5] and {p.of for p in seen} == {5}
    assert all(p.slices_done == p.slices == 5 and p.preview is not None for p in last.values())
    assert seen[-1].eta_s == 0


def test_exception_in_progress_ends_the_translation(model, volume):
    def cancel(progress) -> None:
        raise Cancelled("The translation was cancelled.")

    with pytest.raises(Cancelled):
        model.translate(volume, device="cpu", on_progress=cancel)


def test_smaller_batches_when_memory_runs_out(model, volume, monkeypatch):
    expected = model.translate(volume, device="cpu").volume.data
    forward, tried = model.backbone.forward, []

    def scarce(condition):
        tried.append(len(condition))
        if len(condition) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(condition)

    monkeypatch.setattr(model.backbone, "forward", scarce)
    assert np.abs(model.translate(volume, device="cpu").volume.data - expected).max() < 0.01
    assert max(tried) > 1

    monkeypatch.setattr(model.backbone, "forward", lambda c: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemory):
        model.translate(volume, device="cpu")


def test_constant_volume_is_refused(model):
    with pytest.raises(InvalidVolume):
        model.translate(Volume(np.ones((4, 8, 8)), np.eye(4)))


def test_source_kind_decides_between_hounsfield_units_and_mr(model):
    source = head()
    hu = Volume(source.data * 0.1 - 1000 * (source.data == 0) - 10, source.ijkToRAS)
    kinds = {
        kind: model.translate(hu, views=1, device="cpu", source=kind).provenance["sourceTakenAs"]
        for kind in ("auto", "mr", "ct")
    }
    assert kinds == {"auto": "CT", "mr": "MR", "ct": "CT"}


def test_model_without_denoiser_draws_no_samples(model, volume):
    model.denoiser = None
    with pytest.raises(InvalidParameter, match="steps to 1"):
        model.translate(volume, steps=2, device="cpu")


def test_guided_filter_sharpens_an_image_blurred_like_its_guide():
    rng = np.random.default_rng(1)
    guide = smooth(rng.normal(size=(9, 24, 24)).astype(np.float32), (1, 1, 1)) + 1
    blur = (0.7, 1.0, 1.0)
    made = guided_filter(guide, 2 * smooth(guide, blur) + 0.5, (1.5, 1.5, 1.5), blur, 1e-8)
    assert np.abs(made - (2 * guide + 0.5))[2:-2, 4:-4, 4:-4].max() < 0.02


def test_smoothing_agrees_with_scipy():
    from scipy import ndimage

    image = np.random.default_rng(2).random((12, 30, 30)).astype(np.float32)
    expected = ndimage.gaussian_filter(image, (0, 2.0, 2.0))
    found = smooth(image, (0.3, 2.0, 2.0))  # too narrow along k: left alone
    assert np.abs(found - expected)[:, 8:-8, 8:-8].max() < 0.01


def test_look_replaces_the_brain_and_scales_the_rest():
    outputs = torch.rand(2, 6, 8, 8)
    outputs[:, -1] = 0
    outputs[:, -1, :, :4] = 1  # the left half is brain
    weights = torch.zeros(FEATURES + 1)
    weights[1 + 3] = 0.5  # half of FLAIR
    weights[0], weights[-1] = 0.1, 2.0
    made = apply_look(weights, outputs, target=1)
    assert torch.allclose(made[:, 0, :, :4], 0.1 + 0.5 * outputs[:, 3, :, :4])
    assert torch.allclose(made[:, 0, :, 4:], 2 * outputs[:, 1, :, 4:])


def test_look_features_are_constant_contrasts_and_products():
    contrasts = torch.tensor([2.0, 3.0, 5.0, 7.0])[:, None, None]
    found = features(contrasts).flatten().tolist()
    assert found == [1, 2, 3, 5, 7, 4, 6, 10, 14, 9, 15, 21, 25, 35, 49]
