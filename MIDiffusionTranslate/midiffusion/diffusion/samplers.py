"""From noise to an image: eq. 13 of arXiv 2301.13743 (our reading) and its discretisations.

A sampler knows a denoiser and a list of noise levels, nothing else. The denoiser D(x, sigma)
estimates x0 from x = x0 + sigma z, and everything follows from the score it stands for:

    s(x, sigma) = grad log p(x; sigma) = (D(x, sigma) - x) / sigma^2     (arXiv 2206.00364 eq. 3)

    dx = -(d sigma^2/dt) s dt + sqrt(d sigma^2/dt) dw     the reverse SDE (eq. 13), time backwards
    dx/d sigma = -sigma s = (x - D(x, sigma)) / sigma     the ODE of the same marginals (EDM eq. 1)

Each sampler is one function

    sample(denoise, x, sigmas, *, noise=None, on_step=None) -> Tensor, like x

    denoise(x, sigma)  estimate of x0, like x; sigma is a Python float
    x                  the start, sigmas[0] times standard normal noise; any shape.
                       The state keeps its dtype and may be float64 over a float32 network.
    sigmas             [steps + 1] descending to 0 (process), read once: nothing in the loop waits
                       for the device.
    noise(key)         standard normal tensor like x, a pure function of its key; only the
                       stochastic samplers ask for it. Step 1 uses key 1, step 2 key 2, ...; the
                       corrector uses step + j * CORRECTOR_KEYS for its j-th correction. Key 0 is
                       never used: it is the caller's, for the start.
    on_step(i, of, denoised)  after step i of `of` (counted from 1), with the newest estimate of x0.

The last step, from the smallest level to 0, returns D in all of them: the stochastic ones add no
noise that nothing would remove any more (arXiv 2009.05475; a departure from eq. 13 as written). It
costs one evaluation. InvalidParameter is raised for levels that do not descend to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import InvalidParameter

Denoise = Callable[[Tensor, float], Tensor]
Noise = Callable[[int], Tensor]
OnStep = Callable[[int, int, Tensor], None]

CORRECTOR_KEYS = 1_000_000


def _silent(step: int, of: int, denoised: Tensor) -> None:
    pass


def _steps(sigmas: Tensor) -> list[tuple[int, float, float]]:
    """(step counted from 1, its level, the next level) as plain numbers."""
    levels = [float(sigma) for sigma in sigmas.tolist()]
    steps = [(i + 1, *pair) for i, pair in enumerate(zip(levels, levels[1:], strict=False))]
    if not steps or levels[-1] != 0.0 or any(not high > low for _, high, low in steps):
        raise InvalidParameter("the noise levels must descend, one step at least, and end in 0.")
    return steps


def _needed(noise: Noise | None) -> Noise:
    if noise is None:
        raise InvalidParameter("this sampler is stochastic: it needs a source of noise.")
    return noise


def euler_maruyama(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The reverse SDE (arXiv 2301.13743 eq. 13, our reading); weak order 1; one evaluation a step.

    With the variance as the clock the reverse SDE is dx = s d(sigma^2) + dw, and one Euler-Maruyama
    step over the variance removed, v = sigma^2 - sigma_next^2, is x + v s + sqrt(v) z. This is also
    the "reverse diffusion" predictor of arXiv 2011.13456 (appendix E), and needs no other clock.
    """
    noise, on_step, steps = _needed(noise), on_step or _silent, _steps(sigmas)
    for step, sigma, sigma_next in steps:
        denoised = denoise(x, sigma)
        x = _reverse(x, denoised, sigma, sigma_next, step, noise)
        on_step(step, len(steps), denoised)
    return x


def _reverse(
    x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, step: int, noise: Noise
) -> Tensor:
    """x + v s + sqrt(v) z, with v s = (1 - kept) (D - x); without z on the last step."""
    kept = (sigma_next / sigma) ** 2
    x = kept * x + (1.0 - kept) * denoised
    if sigma_next > 0:
        x = x + math.sqrt(sigma**2 - sigma_next**2) * noise(step)
    return x


def predictor_corrector(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    corrections: int = 1,
    signal_to_noise: float = 0.16,
) -> Tensor:
    """The step of `euler_maruyama`, then Langevin corrections (arXiv 2011.13456, algorithm 2).

    A correction moves x at a fixed level, x + e s + sqrt(2 e) z, which leaves p(x; sigma) unchanged
    but for O(e) and draws the law of x back to it after the predictor's error. Its step is e =
    2 (r |z| / |s|)^2 in the tradition (algorithm 4). We put the expected ratio of the norms, sigma,
    since x - D is about sigma z: e = 2 (r sigma)^2, proportional to sigma^2 as in annealed Langevin
    dynamics (arXiv 1907.05600). So no slice's step depends on another's, nothing is reduced on the
    device, and every r < 1 is stable, because p(x; sigma) is nowhere narrower than sigma.

    corrections: how many after each step, but not after the last (>= 0; each one evaluation).
    signal_to_noise: r above, between 0 and 1.
    """
    if corrections < 0 or not 0.0 < signal_to_noise < 1.0:
        raise InvalidParameter(
            f"corrections is {corrections} (0 at least) and the corrector's signal-to-noise ratio "
            f"{signal_to_noise} (between 0 and 1)."
        )
    noise, on_step, steps = _needed(noise), on_step or _silent, _steps(sigmas)
    pull, push = 2 * signal_to_noise**2, 2 * signal_to_noise  # e / sigma^2 and sqrt(2 e) / sigma
    for step, sigma, sigma_next in steps:
        denoised = denoise(x, sigma)
        x = _reverse(x, denoised, sigma, sigma_next, step, noise)
        for correction in range(1, corrections + 1 if sigma_next > 0 else 1):
            denoised = denoise(x, sigma_next)
            z = noise(step + correction * CORRECTOR_KEYS)
            x = x + pull * (denoised - x) + push * sigma_next * z
        on_step(step, len(steps), denoised)
    return x


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Heun's method on the ODE (arXiv 2206.00364, algorithm 1); order 2; two evaluations a step.

    An Euler step to the next level, then again with the mean of the slopes at both ends. The slope
    does not exist at level 0, so the last step is the Euler step alone. `noise` is not used.
    """
    on_step, steps = on_step or _silent, _steps(sigmas)
    for step, sigma, sigma_next in steps:
        denoised = denoise(x, sigma)
        slope = (x - denoised) / sigma
        end = x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            denoised = denoise(end, sigma_next)
            slope_end = (end - denoised) / sigma_next
            end = x + (sigma_next - sigma) * 0.5 * (slope + slope_end)
        x = end
        on_step(step, len(steps), denoised)
    return x


def dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M) on the ODE (arXiv 2211.01095, algorithm 2); order 2; one evaluation a step.

    Were D constant over a step, the ODE would be linear and its solution exactly

        x_next = (sigma_next / sigma) x + (1 - sigma_next / sigma) D

    so only D has to be approximated: by its value in the middle of the step in log sigma, drawn as
    a line through this and the previous evaluation. The first step knows only one, and on the last
    log sigma runs to minus infinity: both take D as it is. `noise` is not used.
    """
    on_step, steps = on_step or _silent, _steps(sigmas)
    previous: Tensor | None = None
    length_before = math.inf
    for step, sigma, sigma_next in steps:
        denoised = denoise(x, sigma)
        ratio = sigma_next / sigma
        middle = denoised
        if sigma_next > 0:
            length = -math.log(ratio)
            if previous is not None:
                # In place where nobody else looks: states of all slices are most of a run's memory.
                middle = (denoised - previous).mul_(0.5 * length / length_before).add_(denoised)
            previous, length_before = denoised, length
        x = (ratio * x).add_((1.0 - ratio) * middle)
        on_step(step, len(steps), denoised)
    return x


@dataclass(frozen=True)
class Sampler:
    """A sampler with its price in network evaluations, which is what the user's `steps` counts.

    evaluations_per_step is the price of every step but the last, which costs one in all of them.
    """

    name: str
    sample: Callable[..., Tensor]
    evaluations_per_step: int
    stochastic: bool

    def evaluations(self, steps: int) -> int:
        """Network evaluations (per image) spent by `steps` steps."""
        return self.evaluations_per_step * (steps - 1) + 1

    def steps(self, evaluations: int) -> int:
        """The most steps that cost at most `evaluations`: heun takes 5 for 9 or 10.

        Raises InvalidParameter for fewer than one evaluation.
        """
        if evaluations < 1:
            raise InvalidParameter(f"steps is {evaluations}: at least 1 is needed.")
        return (evaluations - 1) // self.evaluations_per_step + 1


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("euler_maruyama", euler_maruyama, 1, stochastic=True),
        Sampler("predictor_corrector", predictor_corrector, 2, stochastic=True),
        Sampler("heun", heun, 2, stochastic=False),
        Sampler("dpmpp_2m", dpmpp_2m, 1, stochastic=False),
    )
}
