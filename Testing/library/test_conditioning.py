"""Denoiser and condition: preconditioning, cached maps, dropout, and the loss of eq. 12."""

import pytest
import torch
from midiffusion.diffusion.conditioning import LMICondition, LMISettings
from midiffusion.diffusion.denoiser import Denoiser
from midiffusion.diffusion.loss import denoising_loss
from midiffusion.diffusion.network import UNet, UNetConfig
from midiffusion.lmi import LocalMutualInformation

SETTINGS = LMISettings(
    dilations=(1, 2), bandwidths=(0.05,), cross_dilations=(1,), cross_sigma_max=0.5
)


class _Constant(torch.nn.Module):
    """A network that answers with one number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x, c_noise, cond):
        return torch.full_like(x, self.value)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def _fresh(channels: int) -> Denoiser:
    return Denoiser(UNet(UNetConfig(cond_channels=channels, channels=(8, 16))), sigma_data=0.3)


def _loss(denoiser, x0, condition, sigma, noise):
    def denoise(x, level):
        return denoiser(x, level, condition.channels(x, level))

    return denoising_loss(denoise, x0, sigma, noise, denoiser.sigma_data)


def test_a_silent_network_gives_the_best_linear_estimate():
    """With F = 0, D is the posterior mean of zero-mean Gaussian data of deviation sigma_data."""
    x = torch.randn(4, 1, 8, 8)
    denoiser = Denoiser(_Constant(0.0), sigma_data=0.3)
    for sigma in (0.01, 0.3, 40.0):
        expected = x * 0.3**2 / (0.3**2 + sigma**2)
        torch.testing.assert_close(denoiser(x, sigma, x), expected)


def test_the_network_never_speaks_louder_than_the_data():
    """c_out bounds what the network adds by min(sigma, sigma_data) in its own units."""
    zero = torch.zeros(1, 1, 8, 8)
    denoiser = Denoiser(_Constant(1.0), sigma_data=0.3)
    for sigma in (0.01, 0.3, 40.0):
        assert float(denoiser(zero, sigma, zero).max()) <= min(sigma, 0.3)


def test_maps_are_those_of_the_lmi_layer(images):
    state = images.flip(0)
    maps = LMICondition(images, SETTINGS).channels(state, 0.1)
    own = LocalMutualInformation(dilations=(1, 2), bandwidths=(0.05,))(images, images)
    cross = LocalMutualInformation(dilations=(1,), bandwidths=(0.12,))(
        images, state, torch.full((3,), 0.1)
    )
    torch.testing.assert_close(maps, torch.cat((own, cross), dim=1))
    assert maps.shape[1] == SETTINGS.channels


def test_cross_maps_end_at_their_noise_level(images):
    condition = LMICondition(images, SETTINGS)
    sigma = torch.tensor([0.49, 0.5, 0.51])
    cross = condition.channels(images, sigma)[:, 2]
    assert (cross.flatten(1).amax(dim=1) > 0).tolist() == [True, True, False]
    # A number, as samplers give it, means the same as a tensor, as training gives it.
    for level in (0.3, 0.8):
        torch.testing.assert_close(
            condition.channels(images, level), condition.channels(images, torch.full((3,), level))
        )


def test_a_selection_is_the_condition_of_those_slices(images):
    whole = LMICondition(images, SETTINGS)
    part = whole.select(slice(1, 3))
    torch.testing.assert_close(
        part.channels(images[1:], 0.2), whole.channels(images, torch.full((3,), 0.2))[1:]
    )


def test_the_source_is_seen_through_lmi_only(images):
    """Inverting the source's intensities changes no map: no intensity reaches the network."""
    there = LMICondition(images, SETTINGS).channels(images, 0.1)
    inverted = LMICondition(1 - images, SETTINGS).channels(images, 0.1)
    torch.testing.assert_close(there, inverted, atol=1e-5, rtol=0)


def test_the_loss_is_the_weighted_error_against_the_true_score(images):
    """Eq. 12 computed from scores, independently of the denoising form the code uses."""
    torch.manual_seed(1)
    denoiser = _fresh(SETTINGS.channels)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    sigma, noise = torch.tensor([0.05, 0.4, 3.0]), torch.randn_like(images)
    condition = LMICondition(images, SETTINGS)
    loss = _loss(denoiser, images, condition, sigma, noise)
    s = sigma[:, None, None, None]
    x = images + s * noise
    score = (denoiser(x, sigma, condition.channels(x, sigma)) - x) / s**2
    true_score = -noise / s
    weight = sigma**4 * (sigma**2 + 0.09) / (sigma * 0.3) ** 2
    expected = weight * ((score - true_score) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss, expected, rtol=2e-3, atol=1e-5)


def test_every_noise_level_starts_with_a_loss_near_one():
    """Gaussian data of deviation sigma_data and a silent network: E[loss] = 1 at every sigma."""
    g = torch.Generator().manual_seed(0)
    x0 = 0.3 * torch.randn(8, 1, 32, 32, generator=g)
    settings = LMISettings(cross_dilations=())
    condition = LMICondition(x0, settings)
    noise = torch.randn(x0.shape, generator=g)
    for sigma in (0.02, 0.3, 10.0):
        with torch.no_grad():
            denoiser = _fresh(settings.channels)
            loss = _loss(denoiser, x0, condition, torch.full((8,), sigma), noise)
        assert float(loss.mean()) == pytest.approx(1.0, rel=0.05)
