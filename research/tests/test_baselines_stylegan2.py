"""StyleGAN2: its parts against what they are by definition, and inversion of what it has learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.volume import Volume
from midiffusion_research.baselines import Budget, stylegan2
from midiffusion_research.baselines.stylegan2 import StyleGAN2, gradient_penalty
from midiffusion_research.baselines.stylegan2_networks import (
    Discriminator,
    ModulatedConvolution,
    SynthesisNetwork,
    minibatch_deviation,
    smooth,
    twice_as_large,
)
from midiffusion_research.datasets import Subject


def test_modulated_weights_are_scaled_and_brought_back_to_unit_norm():
    torch.manual_seed(0)
    layer = ModulatedConvolution(3, 5, 3, width=4)
    x, w = torch.randn(2, 3, 6, 6), torch.randn(2, 4)
    result = layer(x, w)
    for image, latent, found in zip(x, w, result, strict=True):
        style = F.linear(latent, layer.style.weight / 2) + layer.style.bias  # 2: root of width
        weight = layer.weight * style[None, :, None, None]
        norms = weight.flatten(1).norm(dim=1)[:, None, None, None]
        expected = F.conv2d(image[None], weight / norms, padding=1)[0]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    # A style ten times as strong changes nothing but the sign of nothing: that is demodulation.
    with torch.no_grad():
        layer.style.weight *= 10
        layer.style.bias *= 10
    torch.testing.assert_close(layer(x, w), result, atol=1e-4, rtol=1e-4)


def test_the_filter_removes_what_half_the_size_cannot_show():
    rows, columns = np.mgrid[:16, :16]
    finest = torch.from_numpy((-1.0) ** (rows + columns))[None, None]
    assert smooth(finest, 1)[:, :, 3:-3, 3:-3].abs().max() < 1e-6
    constant = torch.full((1, 2, 8, 8), 0.7)
    torch.testing.assert_close(smooth(constant, 3), torch.full((1, 2, 9, 9), 0.7))
    torch.testing.assert_close(twice_as_large(constant), torch.full((1, 2, 16, 16), 0.7))


def test_images_that_are_all_alike_are_found_out():
    torch.manual_seed(0)
    one = torch.randn(1, 3, 4, 4)
    assert minibatch_deviation(one.repeat(4, 1, 1, 1)).max() < 2e-4
    signs = torch.tensor([1.0, -1, 1, -1])[:, None, None, None]
    other = minibatch_deviation(signs * torch.full((4, 3, 4, 4), 0.5))
    torch.testing.assert_close(other, torch.full((4, 1, 4, 4), 0.5), atol=1e-4, rtol=0)


def test_the_penalty_of_a_plane_is_its_slope():
    slope = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    penalty = gradient_penalty(lambda x: (x * slope).sum(dim=(1, 2, 3)), torch.zeros(4, 1, 8, 8))
    gamma = 2e-4 * 64 / 4
    assert penalty.item() == pytest.approx(gamma / 2 * slope.square().sum().item(), rel=1e-5)


def test_sizes_and_the_latents_of_every_layer():
    torch.manual_seed(0)
    synthesis, w = SynthesisNetwork(16, 1 / 64), torch.randn(2, 6, 8)
    assert synthesis.layers == 6
    image = synthesis(w, noisy=False)
    assert image.shape == (2, 1, 16, 16)
    for layer in range(6):
        changed = w.clone()
        changed[:, layer] += 1
        assert (synthesis(changed, noisy=False) - image).abs().max() > 1e-4
    assert Discriminator(16, 1 / 64)(image).shape == (2,)
    with pytest.raises(InvalidParameter, match="not on 48"):
        StyleGAN2(width=1, size=48)
    assert StyleGAN2(width=1 / 64, size=8).name == "stylegan2, 8 of 512 channels"


class Plane(torch.nn.Module):
    """A generator whose images are the weighted sums of a few: the nearest one is known."""

    layers = 2

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.pictures = torch.randn(2 * 8, 1, 16, 16, generator=random) / 4

    def forward(self, w, noisy):
        assert not noisy
        return torch.einsum("bn,nchw->bchw", w.flatten(1), self.pictures)


def _distance_to_the_nearest(inversion_steps):
    """Of what is found for a picture off the plane, whose foot on it is known by least squares (in
    the distance of the pyramid, which sums over 16, 8 pixels)."""
    method = StyleGAN2(width=1 / 64, size=16, inversion_steps=inversion_steps)
    method._average.synthesis = plane = Plane()
    weights, other = torch.randn(3, 16), torch.randn(3, 1, 16, 16) / 8
    wanted = torch.einsum("bn,nchw->bchw", weights, plane.pictures) + other
    parts = [plane.pictures.flatten(1), 2 * F.avg_pool2d(plane.pictures, 2).flatten(1)]
    basis = torch.cat(parts, dim=1).T
    halved = 2 * F.avg_pool2d(wanted, 2).flatten(1)
    best = torch.linalg.lstsq(basis, torch.cat((wanted.flatten(1), halved), dim=1).T).solution.T
    nearest = torch.einsum("bn,nchw->bchw", best, plane.pictures)
    return (
        method._invert(wanted) - nearest
    ).square().mean().sqrt() / nearest.square().mean().sqrt()


def test_inversion_finds_the_nearest_image_of_the_generator():
    torch.manual_seed(0)
    assert _distance_to_the_nearest(100) < 0.1
    assert _distance_to_the_nearest(3) > 0.5  # and the check notices one that gives up early


def _subjects(brightness):
    image = np.full((1, 8, 8), brightness, np.float32)
    volume = Volume(image, np.diag([-6.0, -6, 6, 1]), "T1")
    return [Subject(str(number), volume, image, image > 0) for number in range(8)]


def _brightness(method):
    with torch.no_grad():
        return float((method._average(64).mean() + 1) / 2)


def test_the_generator_learns_what_the_targets_look_like(monkeypatch):
    # Flat images: what there is to learn is one number, and it takes a second.
    monkeypatch.setattr(stylegan2, "moved", lambda random, *stacks: list(stacks))
    learnt = {}
    for brightness in (0.2, 0.9):
        method = StyleGAN2(width=1 / 64, size=8)
        method.fit(_subjects(brightness), Budget(steps=80))
        learnt[brightness] = _brightness(method)
    # Both start from the same weights: what does not learn has one brightness, and fails one of the
    # two.
    assert learnt[0.2] < 0.42 and learnt[0.9] > 0.63


def test_no_subjects_no_training():
    with pytest.raises(InvalidData, match="'stylegan2, 8 of 512 channels' needs training"):
        StyleGAN2(width=1 / 64, size=8).fit([], Budget(steps=1))
