"""The U-Net: shapes, cost, and what its normalisation and initialisation promise."""

import pytest
import torch
from midiffusion.diffusion.network import UNet, UNetConfig
from midiffusion.training.backbone_training import BackboneTrainingConfig
from torch.utils.flop_counter import FlopCounterMode


def _random_network(seed: int = 0, **settings) -> UNet:
    """A small network whose output layer is not zero, as after training."""
    torch.manual_seed(seed)
    net = UNet(UNetConfig(cond_channels=2, channels=(8, 16, 24), embedding=16, **settings))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (96, 8)])
@pytest.mark.parametrize("blocks, patch", [(1, 2), (2, 1)])
def test_any_size_that_is_a_multiple(size, blocks, patch):
    net = _random_network(blocks=blocks, patch=patch)
    x, cond = torch.rand(2, 1, *size), torch.rand(2, 2, *size)
    assert size[0] % net.config.multiple == size[1] % net.config.multiple == 0
    assert net(x, torch.zeros(2), cond).shape == x.shape


def test_a_fresh_network_says_nothing():
    net = UNet(UNetConfig(cond_channels=2, channels=(8, 16)))
    assert net(torch.rand(1, 1, 16, 16), torch.zeros(1), torch.rand(1, 2, 16, 16)).abs().max() == 0


def test_noise_level_and_condition_matter():
    net = _random_network()
    x, cond = torch.rand(1, 1, 16, 16), torch.rand(1, 2, 16, 16)
    base = net(x, torch.zeros(1), cond)
    assert (net(x, torch.ones(1), cond) - base).abs().max() > 1e-3
    assert (net(x, torch.zeros(1), 1 - cond) - base).abs().max() > 1e-3


def test_slices_do_not_see_each_other():
    net = _random_network()
    x, cond, c_noise = torch.rand(3, 1, 16, 16), torch.rand(3, 2, 16, 16), torch.rand(3)
    together = net(x, c_noise, cond)
    alone = torch.cat([net(x[i : i + 1], c_noise[i : i + 1], cond[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_air_around_the_head_does_not_change_the_head():
    """No statistic runs over the image: far from the new border nothing moves."""
    net = _random_network()
    x, cond = torch.zeros(1, 1, 192, 192), torch.zeros(1, 2, 192, 192)
    x[..., 88:104, 88:104], cond[..., 88:104, 88:104] = torch.rand(1, 1, 16, 16), 0.7
    wide = [torch.nn.functional.pad(t, (32, 32, 32, 32)) for t in (x, cond)]
    narrow_out = net(x, torch.zeros(1), cond)
    wide_out = net(wide[0], torch.zeros(1), wide[1])[..., 32:-32, 32:-32]
    centre = (..., slice(80, 112), slice(80, 112))
    torch.testing.assert_close(narrow_out[centre], wide_out[centre], atol=1e-4, rtol=1e-4)


def test_backbone_stays_within_its_budget():
    """At most 1.6 GFLOP for one evaluation of 128 x 128."""
    net = BackboneTrainingConfig().build().network
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 1, 128, 128), torch.zeros(1), torch.zeros(1, 7, 128, 128))
    assert counter.get_total_flops() <= 1.6e9
