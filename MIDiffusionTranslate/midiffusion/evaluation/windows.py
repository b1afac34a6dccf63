"""`midiffusion benchmark windows`: in how large a neighbourhood may a result follow its source?

The width of the window of `detail` is a choice, and choices are made on *training* subjects, whose
target the model has seen but never as the translation of another contrast. Every width is tried on
the same samples; 0 is the network's own result. Narrow windows leave noise, wide ones take away
what the model alone has drawn: the contrast of lesions says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .. import __version__
from ..arguments import Arguments, device_name
from ..device import choose_device, describe
from ..errors import InvalidParameter
from ..model import TranslationModel, load_model
from ..volume import Volume
from .baselines.diffusion import MIDiffusion, Sampling
from .bootstrap import Interval, interval
from .datasets import DATASETS, Subject, dataset
from .report import estimate_text, markdown_table, say, write_json
from .scorer import FIGURES, score_subject

_SIZE = 128
_SHOWN = ("ssim", "psnr_gain", "mae", "mi", "ssim_full", "lesion_contrast", "lesion_contrast_real")


class _Windowed(TranslationModel):
    """A model whose results follow the source in windows of a given width."""

    def __init__(self, model: TranslationModel, width_mm: float) -> None:
        super().__init__(model.card, model.denoiser)
        self._width_mm = width_mm

    def window_mm(self, volume: Volume) -> float:
        return self._width_mm


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    if min(options.subjects, options.slices) < 1 or min(options.widths) < 0:
        raise InvalidParameter("--subjects and --slices must be at least 1, --widths at least 0.")
    data = dataset(options.dataset)
    direction = options.direction or data.directions[0]
    loaded = data.load(options.data, direction, "train")
    rows = np.unique(np.linspace(0, len(loaded) - 1, options.subjects).round().astype(int))
    subjects = [loaded[row].some(options.slices) for row in rows]
    target = direction.split(":")[1]
    model = load_model(options.model or data.bundles.get(target, target), options.model_folder)
    found = {}
    for width in options.widths:
        say(f"window of {width:g} mm", last=True)
        sampling = Sampling(options.steps, device=options.device, detail=width > 0)
        method = MIDiffusion(_Windowed(model, width), sampling)
        found[width] = _figures(method, subjects, target.upper())
    print(_markdown(found))
    print(
        f"\n{data.name} {direction}, {len(subjects)} training subjects, "
        f"{sum(len(s.target) for s in subjects)} slices, {model.card.id}, one sample"
    )
    if options.json is not None:
        report = {
            "version": __version__,
            "model": model.card.id,
            "weights_sha256": model.card.weights_sha256,
            "device": describe(choose_device(options.device)),
            "dataset": data.name,
            "direction": direction,
            "subjects": [s.id for s in subjects],
            "slices": sum(len(s.target) for s in subjects),
            "steps": options.steps or model.card.default_steps,
            "widths_mm": {
                f"{width:g}": {key: asdict(value) for key, value in row.items()}
                for width, row in found.items()
            },
        }
        write_json(options.json, report)
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
    parser = Arguments(
        prog="midiffusion benchmark windows", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--model", metavar="ID", help="bundle, by id or folder (default: the target's)")
    add("--model-folder", type=Path, metavar="DIR", help="further folder of bundles")
    add("--dataset", default="tcga-lgg", choices=DATASETS)
    add("--data", required=True, type=Path, metavar="DIR", help="its folder, or the one round it")
    add("--direction", metavar="SOURCE:TARGET", help="default: the collection's first")
    add("--widths", nargs="+", type=float, default=[0, 1.3, 1.7, 2.3, 3.3, 5, 6.7], metavar="MM")
    add("--subjects", type=int, default=8, metavar="N", help="spread over all (default 8)")
    add("--slices", type=int, default=4, metavar="N", help="of each subject (default 4)")
    add("--steps", type=int, metavar="N", help="network evaluations (default: the card's)")
    add("--device", default="auto", type=device_name, help="auto, cuda[:i], mps or cpu")
    add("--json", type=Path, metavar="OUT", help="keep the figures, with the device's name")
    return parser
