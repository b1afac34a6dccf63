"""The methods of the table by name: what each needs of the training data, and how it is made.

Nothing here imports torch before a method is made, so that a command's help stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .diffusion import MIDiffusion, Sampling
from .method import Method
from .plain import HistogramMatching, Identity

# What `fit` is to be given: nothing (an empty list will do), subjects whose target alone counts, or
# subjects whose source and target are those of the direction.
Needs = Literal["nothing", "targets", "pairs"]


@dataclass(frozen=True)
class Options:
    """What decides a method besides the training data and the budget.

    device: of torch, "cpu", "cuda:0", ... seed: of weights, order and augmentation. size: side in
    pixels of the slices that learners work on. model: bundle, by id or folder, of the methods that
    need one. model_folder: further folder of bundles. sampling: how a bundle is sampled.
    """

    device: str = "cpu"
    seed: int = 0
    size: int = 128
    model: str = ""
    model_folder: Path | None = None
    sampling: Sampling = field(default_factory=Sampling)


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


def _midiffusion(options: Options) -> Method:
    return MIDiffusion.from_bundle(options.model, options.model_folder, options.sampling)


METHODS: dict[str, Entry] = {
    "identity": Entry(lambda options: Identity(), "nothing"),
    "histogram": Entry(lambda options: HistogramMatching(), "targets"),
    "regressor": Entry(lambda options: _regressor(options, False), "targets", learns=True),
    "paired": Entry(lambda options: _regressor(options, True), "pairs", learns=True),
    "midiffusion": Entry(_midiffusion, "nothing", bundle=True),
}
