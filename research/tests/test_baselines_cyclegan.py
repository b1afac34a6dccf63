"""CycleGAN: its parts against what they are by definition, and a toy whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from midiffusion.errors import InvalidData
from midiffusion_research.baselines import Budget, Identity, cyclegan
from midiffusion_research.baselines.cyclegan import CycleGAN
from midiffusion_research.baselines.cyclegan_networks import (
    ImagePool,
    PatchDiscriminator,
    ResNetGenerator,
)
from toys import discs, error, strangers


def test_the_pool_shows_new_images_until_it_is_full_and_then_half_old_ones():
    random, pool = torch.Generator().manual_seed(0), ImagePool(8)
    numbered = torch.arange(208.0)[:, None]
    assert torch.equal(pool.exchange(numbered[:8], random), numbered[:8])
    shown = torch.cat([pool.exchange(part, random) for part in numbered[8:].split(4)])
    old = shown != numbered[8:]
    assert 0.4 < old.float().mean() < 0.6
    assert (shown[old] < numbered[8:][old]).all()
    assert len(shown[old].unique()) == int(old.sum())  # what was shown has left the pool


def test_networks_of_the_paper_have_its_sizes():
    # Appendix 7.2 of the paper, counted by hand: layers of c7s1-64, d128, d256, six R256, u128,
    # u64, c7s1-1 and of C64-C128-C256-C512 with the last one to a single channel.
    generator = (
        (49 * 64 + 64)
        + (9 * 64 * 128 + 128)
        + (9 * 128 * 256 + 256)
        + 12 * (9 * 256 * 256 + 256)
        + (9 * 256 * 128 + 128)
        + (9 * 128 * 64 + 64)
        + (49 * 64 + 1)
    )
    discriminator = sum(
        16 * i * o + o for i, o in ((1, 64), (64, 128), (128, 256), (256, 512), (512, 1))
    )
    assert _size(ResNetGenerator(64)) == generator
    assert _size(PatchDiscriminator(64)) == discriminator
    assert PatchDiscriminator(1)(torch.zeros(1, 1, 128, 128)).shape == (1, 1, 14, 14)


def _size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def _with(there, back, share=0.0):
    """A method whose generators are functions; its discriminators score the mean of an image."""
    method = CycleGAN(width=1 / 64, paired_share=share, size=32)
    method._there, method._back = there, back
    method._real_source = method._real_target = lambda image: image.mean(dim=(1, 2, 3))
    return method


def test_the_true_map_and_its_inverse_have_nothing_to_pay():
    x, y = torch.full((2, 1, 4, 4), -0.5), torch.full((2, 1, 4, 4), 0.5)
    # Brightens what is dark and leaves what is bright, which is what both losses ask for.
    right = _with(lambda image: image.abs(), lambda image: -image.abs())
    assert right._consistency(x, y, right._back(y), right._there(x)) == 0
    assert right._supervised(x, y) == 0
    # The identity breaks nothing but the pairs: 10 times an error of 1, there and back.
    lazy = _with(lambda image: image, lambda image: image)
    assert lazy._consistency(x, y, y, x) == 0
    assert lazy._supervised(x, y).item() == pytest.approx(20)
    # A constant pays for the cycle (10 x 1 in x, 10 x 0 in y) and for the identity (5 x 1).
    constant = _with(lambda image: y, lambda image: y)
    assert constant._consistency(x, y, y, y).item() == pytest.approx(15)


def test_to_pass_for_real_is_to_score_one():
    method = _with(None, None)
    real, zero = torch.ones(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    assert method._adversarial(real, real) == 0
    assert method._adversarial(real, zero) == 1
    score = method._real_source
    assert cyclegan._judgement(score, real, zero) == 0
    assert cyclegan._judgement(score, zero, real) == 1


def test_the_share_of_pairs_counts_slices():
    def pairs(share):
        return CycleGAN(width=1 / 64, paired_share=share)._pairs(200).tolist()

    assert pairs(0.0) == []
    assert pairs(0.02) == [0, 66, 133, 199]
    assert len(pairs(0.11)) == 22
    assert len(pairs(0.001)) == 1
    assert pairs(1.0) == list(range(200))


def test_the_name_says_how_narrow_it_is():
    assert CycleGAN(width=0.25, paired_share=0).name == "cyclegan, 16 of 64 channels"


@pytest.mark.parametrize(("share", "expected"), [(0.0, set()), (0.25, {0, 5, 10, 15})])
def test_only_the_given_pairs_are_ever_seen_as_pairs(share, expected, monkeypatch):
    seen = []
    method = CycleGAN(width=1 / 64, paired_share=share, size=32)
    monkeypatch.setattr(cyclegan, "moved", lambda random, *stacks: list(stacks))
    monkeypatch.setattr(method, "_supervised", lambda x, y: seen.append((x, y)) or x.new_zeros(()))
    train = discs(16)
    method.fit(train, Budget(steps=3))
    units = [torch.from_numpy(subject.target[0]).clamp(0, 1) * 2 - 1 for subject in train]
    found = {n for _, y in seen for image in y for n, u in enumerate(units) if image[0].equal(u)}
    assert found <= expected and bool(found) == bool(expected)


def _learnt(train, monkeypatch):
    """In few steps, therefore long ones."""
    monkeypatch.setattr(cyclegan, "_LEARNING_RATE", 4e-3)
    method = CycleGAN(width=1 / 16, paired_share=0.5, size=32)
    method.fit(train, Budget(steps=50))
    assert method.steps == 50
    return method


def test_it_learns_the_map_and_from_wrong_pairs_it_does_not(monkeypatch):
    train, unseen = discs(16), discs(4, first=100)
    enough = 0.5 * error(Identity(), unseen)
    assert error(_learnt(train, monkeypatch), unseen) < enough
    assert error(_learnt(strangers(train), monkeypatch), unseen) > enough


def test_an_output_on_the_source_grid_and_no_training_without_subjects():
    method = CycleGAN(width=1 / 64, paired_share=0.5, size=32)
    output = method.translate(discs(1, side=48)[0].source)
    assert output.shape == (1, 48, 48) and output.dtype == np.float32
    assert output.min() >= 0 and output.max() <= 1.1
    with pytest.raises(InvalidData, match="'cyclegan, 1 of 64 channels' needs training subjects"):
        method.fit([], Budget(steps=1))
