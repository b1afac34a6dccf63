"""Steering a denoiser by the gradient of LMI: a wrapper  denoise -> denoise.

The network is told about the source through LMI maps (conditioning.py). Guidance is the other way
to the same end, and needs no training: the estimate is pushed towards more mutual information with
the source while sampling. It works for the unconditional prior and on top of conditioning.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from midiffusion.diffusion.samplers import Denoise
from midiffusion.errors import InvalidParameter
from torch import Tensor

LMI = Callable[[Tensor, Tensor], Tensor]


def lmi_guidance(
    denoise: Denoise,
    source: Tensor,
    lmi: LMI,
    scale: float,
    *,
    sigma_data: float = 0.5,
    batch: int = 8,
) -> Denoise:
    """D'(x, sigma) = D + scale * p(sigma) * g / rms(g), with D = denoise(x, sigma) and

        g = grad of mean LMI(source, x0_hat) with respect to x0_hat, at x0_hat = D
        p(sigma) = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)

    Where this comes from. Let the source's say in the image be a factor exp(w M(D(x, sigma))) on
    the density, M the mean of LMI(source, .) (classifier guidance, arXiv 2011.13456 section 5,
    with the estimate in the place of the clean image, arXiv 2209.14687 eq. 9). The score becomes
    s + w grad_x M(D(x)), and by D = x + sigma^2 s (arXiv 2206.00364 eq. 3) the denoiser becomes

        D' = D + w sigma^2 J^T g,    J = dD/dx, the Jacobian of the denoiser.

    That Jacobian is no stranger: sigma^2 J is the covariance of x0 given x (Tweedie's formula,
    differentiated once more). So in exact guidance the estimate moves by covariance times gradient:
    far where x0 is still open, and not at all in the end.

    The Jacobian is not computed. It would take a backward pass through the network at every
    evaluation, twice the time and many times the memory, and a trained network's Jacobian need not
    be a covariance at all. It is replaced by that of independent Gaussian pixels with standard
    deviation sigma_data, sigma_data^2 / (sigma^2 + sigma_data^2) I, so that the covariance is
    p^2 I: p is sigma where the noise is small, sigma_data where it is large. Gradients are only
    taken through the LMI.

    The size of g says little: it depends on the number of pixels and steeply on the kernel's width.
    It is set to root mean square 1 in each image, which makes `scale` a plain number: by how many
    of its own standard deviations (p) the estimate moves. 0 leaves the denoiser as it is; 0.1 to
    0.5 are where to begin. As p vanishes with sigma, so does the push.

    Args:
        denoise: D, as the samplers take it; x and its result are [B, 1, H, W], model units.
        source: [B, 1, H, W], model units.
        lmi: (source, x0_hat) -> maps [B, C, H, W], differentiable (`LocalMutualInformation` with
            any estimator but `reference`).
        scale: see above; negative values push away from the source.
        sigma_data: root mean square of the training images (the model card has it), model units.
        batch: images in the LMI at once. Memory grows with it; the result does not depend on it.

    Raises:
        InvalidParameter: sigma_data or batch out of its range; when called, images and source of
            different shapes.
    """
    if not sigma_data > 0 or batch < 1:
        raise InvalidParameter(
            f"sigma_data is {sigma_data} (above 0) and batch {batch} (1 at least)."
        )
    if scale == 0:
        return denoise

    def guided(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        if denoised.shape != source.shape:
            raise InvalidParameter(
                f"guidance needs images of the source's shape {tuple(source.shape)}, not "
                f"{tuple(denoised.shape)}."
            )
        step = scale * sigma * sigma_data / (sigma**2 + sigma_data**2) ** 0.5
        uphill = [
            _direction(lmi, source[at : at + batch], denoised[at : at + batch])
            for at in range(0, len(source), batch)
        ]
        return denoised + step * torch.cat(uphill)

    return guided


def _direction(lmi: LMI, source: Tensor, estimate: Tensor) -> Tensor:
    """Gradient of each image's mean LMI, at root mean square 1 (0 where it is 0): like `estimate`.

    The sampler may run without gradients, even in inference mode, whose tensors autograd refuses:
    hence the copies.
    """
    with torch.inference_mode(False), torch.enable_grad():
        image = estimate.detach().clone().requires_grad_()
        known = source.detach().to(image.dtype, copy=True)
        # The sum over images of their own means: no image's gradient knows of the others.
        total = lmi(known, image).mean(dim=(1, 2, 3)).sum()
        (gradient,) = torch.autograd.grad(total, image)
    size = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return gradient / size.clamp_min(torch.finfo(size.dtype).tiny)
