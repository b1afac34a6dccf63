"""`midiffusion benchmark windows`: in how large a neighbourhood may a result follow its source?

The width of the window of `detail` is a choice, and choices are made on *training* subjects, whose
target the model has seen but never as the translation of another contrast. Every width is tried on
the same samples; 0 is the network's own result. Narrow windows leave noise, wide ones take away
what the model alone has drawn: the contrast of lesions says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ..arguments import Arguments
from ..model import TranslationModel
from .baselines.diffusion import MIDiffusion, Sampling
from .bootstrap import Interval, interval
from .datasets import Subject
from .options import add_model, add_run, add_steps, command, require
from .report import estimate_text, markdown_table, say
from .run import Run
from .scorer import FIGURES, score_subject

_SIZE = 128
_WIDTHS_MM = [0, 1.7, 2.3, 3.3, 6.7, 10, 15, 20, 25, 35]
_SHOWN = ("ssim", "psnr_gain", "mae", "mi", "ssim_full", "lesion_contrast", "lesion_contrast_real")


class _Windowed(TranslationModel):
    """A model whose results follow the source in windows of a given width."""

    def __init__(self, model: TranslationModel, width_mm: float) -> None:
        super().__init__(model.card, model.denoiser)
        self._width_mm = width_mm

    def window_mm(self, source_is_ct: bool) -> float:
        return self._width_mm


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, subjects=1, slices=1, steps=1, widths=0)
    run = Run.of(options)
    model = run.model(options)
    loaded = run.subjects("train")
    rows = np.unique(np.linspace(0, len(loaded) - 1, options.subjects).round().astype(int))
    subjects = [loaded[row].some(options.slices) for row in rows]
    found = {}
    # The same for all, also for the network alone: nothing else is to differ.
    steps = options.steps or model.card.default_steps
    for width in options.widths:
        say(f"window of {width:g} mm", last=True)
        sampling = Sampling(steps, device=options.device, detail=width > 0)
        method = MIDiffusion(_Windowed(model, width), sampling)
        found[width] = _figures(method, subjects, run.modality)
    slices = sum(len(s.target) for s in subjects)
    run.publish(
        f"{model.card.id}, {len(subjects)} training subjects, {slices} slices, one sample",
        _markdown(found),
        {
            "model": model.card.id,
            "weights_sha256": model.card.weights_sha256,
            "subjects": [s.id for s in subjects],
            "slices": slices,
            "steps": steps,
            "widths_mm": {
                f"{width:g}": {key: asdict(value) for key, value in row.items()}
                for width, row in found.items()
            },
        },
    )
    return 0


def _figures(
    method: MIDiffusion, subjects: Sequence[Subject], modality: str
) -> dict[str, Interval]:
    """Means over the subjects of what is shown, where they have it."""
    scored = [score_subject(method.translate(s.source), s, _SIZE, modality) for s in subjects]
    return {
        key: interval([one[key] for one in scored if key in one])
        for key in _SHOWN
        if any(key in one for one in scored)
    }


def _markdown(found: dict[float, dict[str, Interval]]) -> str:
    shown = [figure for figure in FIGURES if any(figure.key in row for row in found.values())]
    shown = [figure for figure in shown if figure.key in _SHOWN]
    rows = [
        [f"{width:g} mm" if width else "none"]
        + [estimate_text(row.get(figure.key), figure.decimals) for figure in shown]
        for width, row in found.items()
    ]
    return markdown_table(["Window", *(figure.heading for figure in shown)], rows)


def _parser() -> Arguments:
    parser = command("windows", __doc__, add_model, add_run, add_steps)
    add = parser.add_argument
    add("--widths", nargs="+", type=float, default=_WIDTHS_MM, metavar="MM")
    add("--subjects", type=int, default=8, metavar="N", help="spread over all (default 8)")
    add("--slices", type=int, default=4, metavar="N", help="of each subject (default 4)")
    return parser
