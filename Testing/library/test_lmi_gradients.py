"""The gradients of the layer against finite differences, and where they could be infinite."""

from __future__ import annotations

import pytest
import torch
from library.conftest import SEARCH, related_images
from midiffusion.lmi import LocalMutualInformation


@SEARCH
@pytest.mark.parametrize("widened", [False, True])
def test_gradients(search: str, widened: bool) -> None:
    u, v = related_images(2, 1, 4, 3)
    sigma = torch.tensor([0.05, 0.4], dtype=torch.float64) if widened else None
    layer = LocalMutualInformation(bandwidths=(0.15,), search=search)
    u.requires_grad_()
    v.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: layer(a, b, sigma), (u, v))


def test_gradient_of_self_information() -> None:
    u, _ = related_images(1, 1, 4, 4)
    layer = LocalMutualInformation(bandwidths=(0.15,))
    assert torch.autograd.gradcheck(lambda a: layer(a, a), (u.requires_grad_(),))


def test_gradient_of_flat_and_distant_patches_is_finite() -> None:
    u = torch.zeros(1, 1, 6, 6)
    u[..., 3:, :] = 100.0
    u.requires_grad_()
    LocalMutualInformation()(u, u.flip(-1) * 0.5).sum().backward()
    assert u.grad is not None and torch.isfinite(u.grad).all()
