"""The methods of the table by name: what each needs of the training data, and how it is made.

Nothing here imports torch before a method is made, so that a command's help stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from midiffusion.pipeline.options import TranslationOptions

from .diffusion import MIDiffusion
from .method import Method
from .plain import HistogramMatching, Identity

# Of the training slices, by the names of the data sets: table of arXiv 2301.13743. Elsewhere the
# middle one.
PAIRED_SHARES = {"gold-atlas": 0.02, "curious": 0.06, "ixi": 0.11}
PAIRED_SHARE = 0.06

# What `fit` is to be given: nothing (an empty list will do), subjects whose target alone counts, or
# subjects whose source and target are those of the direction.
Needs = Literal["nothing", "targets", "pairs"]


@dataclass(frozen=True)
class Options:
    """What decides a method besides the training data and the budget.

    device: of torch, "cpu", "cuda:0", ... seed: of weights, order and augmentation. size: side in
    pixels of the slices that learners work on. width: of the adversarial networks, as a share of
    the channels in their papers (the whole is meant for a GPU). paired_share: share of the training
    slices that cyclegan is given as pairs, see `PAIRED_SHARES`. model: bundle, by id or folder, of
    the methods that need one. model_folder: further folder of bundles. sampling: how a bundle is
    sampled.
    """

    device: str = "cpu"
    seed: int = 0
    size: int = 128
    width: float = 0.125
    paired_share: float = PAIRED_SHARE
    model: str = ""
    model_folder: Path | None = None
    sampling: TranslationOptions = field(default_factory=TranslationOptions)


@dataclass(frozen=True)
class Entry:
    """A method of the table: call it with `Options` to get one that has yet to be fitted.

    needs: see `Needs`. learns: whether it spends the budget. bundle: whether it translates by the
    bundle of `Options.model`, as `Options.sampling` says.
    """

    make: Callable[[Options], Method]
    needs: Needs
    learns: bool = False
    bundle: bool = False

    def __call__(self, options: Options) -> Method:
        return self.make(options)


def _regressor(options: Options, paired: bool) -> Method:
    from .regressor import Regressor

    return Regressor(paired=paired, size=options.size, device=options.device, seed=options.seed)


def _midiffusion(options: Options, detail: bool) -> Method:
    how = options.sampling if detail else replace(options.sampling, without=("detail",))
    return MIDiffusion.from_bundle(options.model, options.model_folder, how)


def _sdedit(options: Options) -> Method:
    from .sdedit import SDEdit

    return SDEdit(size=options.size, device=options.device, seed=options.seed)


def _cyclegan(options: Options) -> Method:
    from .cyclegan import CycleGAN

    return CycleGAN(
        width=options.width,
        paired_share=options.paired_share,
        size=options.size,
        device=options.device,
        seed=options.seed,
    )


def _stylegan2(options: Options) -> Method:
    from .stylegan2 import StyleGAN2

    return StyleGAN2(
        width=options.width, size=options.size, device=options.device, seed=options.seed
    )


def _published(options: Options) -> Method:
    from .published import Published

    return Published(size=options.size, device=options.device, seed=options.seed)


METHODS: dict[str, Entry] = {
    "identity": Entry(lambda options: Identity(), "nothing"),
    "histogram": Entry(lambda options: HistogramMatching(), "targets"),
    "regressor": Entry(lambda options: _regressor(options, False), "targets", learns=True),
    "paired": Entry(lambda options: _regressor(options, True), "pairs", learns=True),
    "cyclegan": Entry(_cyclegan, "pairs", learns=True),
    "stylegan2": Entry(_stylegan2, "targets", learns=True),
    # Takes its noise level from the sources of the training subjects.
    "sdedit": Entry(_sdedit, "pairs", learns=True),
    "published": Entry(_published, "targets", learns=True),
    # Without the step `detail`.
    "midiffusion-plain": Entry(
        lambda options: _midiffusion(options, False), "nothing", bundle=True
    ),
    "midiffusion": Entry(lambda options: _midiffusion(options, True), "nothing", bundle=True),
}
