"""Frechet distances against scipy's root of a matrix, and the networks that give them names."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from midiffusion.errors import InvalidParameter, UnreadableFile
from midiffusion_research import inception
from midiffusion_research.frechet import frechet_distance, inception_network, lite_network
from scipy import linalg
from torch import nn

CPU = torch.device("cpu")


@pytest.mark.parametrize(("counts", "width"), [((60, 80), 7), ((30, 200), 11), ((9, 6), 12)])
def test_distance_is_that_of_the_definition(counts, width):
    """Also with fewer images than features, where the covariances have no full rank."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((width, width))
    sets = [random.standard_normal((n, width)) @ mixing + k for k, n in enumerate(counts)]
    (m1, c1), (m2, c2) = ((x.mean(0), np.cov(x, rowvar=False)) for x in sets)
    root = linalg.sqrtm(c1 @ c2).real
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(*sets[::-1]) == pytest.approx(frechet_distance(*sets), rel=1e-9)


def test_distance_of_known_cases():
    random = np.random.default_rng(1)
    images = random.standard_normal((50, 5))
    assert frechet_distance(images, images) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(images, images + 2) == pytest.approx(5 * 4)
    # Scaled by 3: tr(C + 9 C - 2 * 3 C) = 4 tr C, and the mean moves by 2 m.
    mean, spread = images.mean(0), images.var(0, ddof=1).sum()
    assert frechet_distance(images, 3 * images) == pytest.approx(4 * spread + 4 * (mean**2).sum())
    with pytest.raises(ValueError, match="two images"):
        frechet_distance(images[:1], images)


def test_the_lite_network_is_named_and_tells_pictures_apart():
    network = lite_network(CPU)
    assert "EfficientNet-Lite0" in network.heading and "FID" not in network.heading
    random = np.random.default_rng(2)
    smooth = np.cumsum(random.standard_normal((3, 48, 40)), axis=2)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    noisy = np.clip(smooth + 0.3 * random.standard_normal(smooth.shape), 0, 1)
    features = network.features(smooth)
    assert features.shape == (3, 1280) and np.isfinite(features).all()
    np.testing.assert_allclose(network.features(smooth[1:2])[0], features[1], rtol=1e-3, atol=1e-4)
    slightly = frechet_distance(features, network.features(np.clip(smooth + 0.01, 0, 1)))
    assert slightly < 0.3 * frechet_distance(features, network.features(noisy))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return inception.Inception().eval()


def test_inception_has_the_published_number_of_parameters(network):
    """Keras gives 23 817 352 trainable ones for InceptionV3 with 1000 classes and no scale in its
    17 216 normalised channels; here are 1008 classes, and scales."""
    ours = sum(parameter.numel() for parameter in network.parameters())
    assert ours == 23_817_352 + 17_216 + 8 * 2049
    channels = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(channels) == 17_216 and len(channels) == 94


def test_inception_has_the_names_of_the_port(network):
    names = set(network.state_dict())
    for name in (
        "Conv2d_1a_3x3.conv.weight",
        "Conv2d_4a_3x3.bn.running_var",
        "Mixed_5b.branch5x5_2.conv.weight",
        "Mixed_5d.branch_pool.bn.bias",
        "Mixed_6a.branch3x3dbl_3.conv.weight",
        "Mixed_6e.branch7x7dbl_5.conv.weight",
        "Mixed_7a.branch7x7x3_4.conv.weight",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
        "fc.bias",
    ):
        assert name in names
    assert not any("AuxLogits" in name for name in names)


def test_inceptions_blocks_have_their_sizes(network):
    shapes = {}
    for name, module in network.named_children():
        module.register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    with torch.no_grad():
        features = network(torch.zeros(1, 3, 299, 299))
    assert features.shape == (1, 2048)
    # Szegedy et al., table 1: 35 x 35 x 288, 17 x 17 x 768, 8 x 8 x 1280, 8 x 8 x 2048.
    expected = {"Conv2d_2b_3x3": (64, 147, 147), "Conv2d_4a_3x3": (192, 71, 71)}
    expected |= {"Mixed_5b": (256, 35, 35), "Mixed_5d": (288, 35, 35), "Mixed_6a": (768, 17, 17)}
    expected |= {"Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8), "Mixed_7c": (2048, 8, 8)}
    assert {name: shapes[name] for name in expected} == expected


def test_pools_are_those_of_the_graph(network):
    """A mean without the padding leaves a constant as it is, up to the border; the last block has
    a maximum."""
    seen = {}
    for name in ("Mixed_5b", "Mixed_7b", "Mixed_7c"):
        block = getattr(network, name)
        block.branch_pool.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
        channels = block.branch1x1.conv.in_channels
        x = torch.ones(1, channels, 5, 5)
        x[..., 2, 2] = 10.0
        with torch.no_grad():
            block(x)
    for name in ("Mixed_5b", "Mixed_7b"):
        assert seen[name][0, 0, 0, 0] == 1 and seen[name][0, 0, 2, 2] == 2
        assert seen[name][0, 0, 1, 1] == 2
    assert seen["Mixed_7c"][0, 0, 2, 2] == 10 and seen["Mixed_7c"][0, 0, 1, 1] == 10


def test_only_the_weights_of_2015_make_it_fid(network, tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(InvalidParameter, match="6726825d"):
        inception_network(path, CPU)
    with pytest.raises(UnreadableFile, match="missing.pth"):
        inception_network(tmp_path / "missing.pth", CPU)
    monkeypatch.setattr(
        inception, "SHA256_BEGIN", hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    )
    loaded = inception_network(path, CPU)
    assert loaded.heading == "FID"
    picture = np.random.default_rng(3).random((1, 40, 40)).astype(np.float32)
    grey = torch.from_numpy(picture)[:, None].expand(-1, 3, -1, -1)
    scaled = nn.functional.interpolate(grey, (299, 299), mode="bilinear")
    with torch.no_grad():
        expected = network(2 * scaled - 1).numpy()
    np.testing.assert_allclose(loaded.features(picture), expected, rtol=1e-4, atol=1e-5)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    monkeypatch.setattr(
        inception, "SHA256_BEGIN", hashlib.sha256(broken.read_bytes()).hexdigest()[:8]
    )
    with pytest.raises(UnreadableFile, match="broken.pth"):
        inception_network(broken, CPU)
