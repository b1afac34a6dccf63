"""`midiffusion benchmark steering`: does LMI steer the diffusion, or would any maps do?

The same validation slices are sampled with the same noise under four conditions:

- *right*: LMI of the subject's own source;
- *swapped*: LMI of the next subject's source, at the same relative height of the head, which is the
  hardest wrong condition that there is;
- *blank*: LMI of an empty source, which is zero everywhere;
- *unconditional*: the same zero maps (the model's condition dropout) under noise of its own: a draw
  from the prior (as `sampling` draws), which marks the zero of the gain.

The gain is the SSIM inside the head of *right* over *unconditional*; the share of it that *swapped*
loses tells how much of the picture the maps decide, and is what the verdict rests on. *Blank* is no
evidence but a control: it is the unconditional model under other noise, so it loses the whole gain
whatever the model does with its maps, and how far it is from 1 is what noise alone makes of a mean
over these subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import Arguments
from ..conditioning import LMISettings
from ..detail import PLAIN_STEPS
from ..device import choose_device
from ..errors import InvalidParameter
from ..grid import SliceGrid
from ..model import TranslationModel
from ..noise import VESDE
from ..samplers import SAMPLERS
from ..sampling import Plan, draw_samples, reproducible
from ..source import Source
from ..volume import Volume
from .bootstrap import Interval, interval, statistic_interval
from .datasets import Subject
from .datasets.subject import as_acquired
from .options import add_model, add_run, add_seed, add_steps, command, require
from .report import estimate_text, markdown_table, say
from .run import Run
from .scorer import score_subject

# source [S, H, W] in [0, 1.25] as `Source` has it, its volume's geometry, seed -> sample
Draw = Callable[[Volume, int], NDArray[np.float32]]

CONDITIONS = ("right", "swapped", "blank", "unconditional")
REQUIRED_LOSS = 0.5
# Between the skull base and the vertex, as shares of a stack from inferior to superior.
_LOWEST, _HIGHEST = 0.25, 0.75


def steering_figures(
    draw: Draw, subjects: Sequence[Subject], seed: int = 0
) -> dict[str, list[float]]:
    """SSIM inside the head, a value per subject, for each of `CONDITIONS`.

    subjects: their sources have been through `model_sources`, so that they can change places; at
    least two, all of the same shape.
    """
    if len(subjects) < 2:
        raise InvalidParameter("Swapping conditions needs at least two subjects.")
    figures: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    others = [*subjects[1:], subjects[0]]
    for number, (subject, other) in enumerate(zip(subjects, others, strict=True), start=1):
        empty = replace(subject.source, data=np.zeros_like(subject.source.data))
        sources = {
            "right": (subject.source, seed),
            "swapped": (other.source, seed),
            "blank": (empty, seed),
            "unconditional": (empty, seed + 1),
        }
        for name, (source, own_seed) in sources.items():
            sample = draw(source, own_seed)
            figures[name].append(score_subject(sample, subject, None, "")["ssim"])
        say(f"{number} of {len(subjects)} subjects", last=number == len(subjects))
    return figures


def share_lost(figures: Mapping[str, Sequence[float]], condition: str) -> Interval:
    """Share of the gain that a condition loses, (right - condition) / (right - unconditional), of
    means over subjects, with its interval by subject. NaN where there is no gain."""
    columns = [np.array(figures[name]) for name in ("right", condition, "unconditional")]

    def share(rows: NDArray[np.intp]) -> float:
        right, wrong, prior = (float(column[rows].mean()) for column in columns)
        return (right - wrong) / (right - prior) if right > prior else float("nan")

    return statistic_interval(share, len(columns[0]))


def verdict(lost: Interval) -> str:
    """Whether LMI steers, by the share of the gain that swapped maps lose: by the estimate, and by
    the lower end of its interval, which is what other subjects might show."""
    if not lost.value >= REQUIRED_LOSS:
        return "no"
    if not lost.low >= REQUIRED_LOSS:
        return f"yes by the estimate, not by the lower end of its interval ({lost.low:.2f})"
    return f"yes, by the lower end of the interval too ({lost.low:.2f})"


def model_sources(subjects: Sequence[Subject], slices: int) -> list[Subject]:
    """The subjects cut down to so many slices at the same relative heights, their sources on the
    scale that the model sees. Fewer where a subject has fewer."""
    cut = []
    for subject in subjects:
        acquired = as_acquired(subject.source)
        units = Source.of(acquired).units
        count = min(slices, len(units))
        heights = np.linspace(_LOWEST, _HIGHEST, count) if count > 1 else np.array([0.5])
        rows = np.round(heights * (len(units) - 1)).astype(int)
        cut.append(
            replace(
                subject,
                source=Volume(units[rows], subject.source.ijkToRAS, acquired.modality),
                target=subject.target[rows],
                head=subject.head[rows],
                tumour=None,
            )
        )
    return cut


def sampler_of(model: TranslationModel, steps: int | None, device: str) -> Draw:
    """One sample of a bundle by the sampling of the product without detail, and without its
    intensity map of sources (a swapped or empty source must not be rescaled again)."""
    card = model.card
    place = choose_device(device)
    lmi = LMISettings(**card.lmi)
    chosen = SAMPLERS[card.default_sampler]
    own_steps = chosen.steps(PLAIN_STEPS if steps is None else steps)
    multiple = model.denoiser.network.config.multiple
    model.denoiser.to(place)

    def draw(source: Volume, seed: int) -> NDArray[np.float32]:
        grid = SliceGrid.of(source, card.pixel_mm, card.orientation, multiple)
        slices = torch.from_numpy(grid.to_slices(source.data)).clamp_(min=0)[:, None].to(place)
        levels = VESDE(card.sigma_min, card.sigma_max)
        plan = Plan(chosen, own_steps, levels, seed, samples=1, absolute=model.makes_ct)
        with reproducible():
            shown = model.shown(slices, source.modality == "CT")
            (sample,) = draw_samples(model.denoiser, lmi, shown, plan)
            return grid.to_volume(sample[:, 0].cpu().numpy())

    return draw


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, subjects=2, slices=1, steps=1, seed=0)
    run = Run.of(options)
    model = run.model(options)
    subjects = run.subjects(most=options.subjects)
    draw = sampler_of(model, options.steps, options.device)
    figures = steering_figures(draw, model_sources(subjects, options.slices), options.seed)
    summaries = {name: interval(values) for name, values in figures.items()}
    lost = {name: share_lost(figures, name) for name in ("swapped", "blank")}
    rows = [
        [
            f"{name} (control)" if name == "blank" else name,
            estimate_text(summaries[name], 3),
            estimate_text(lost.get(name), 2),
        ]
        for name in CONDITIONS
    ]
    table = markdown_table(["LMI maps", "SSIM head", "Share of the gain lost"], rows)
    swapped = lost["swapped"]
    run.publish(
        f"{model.card.id}, {len(subjects)} subjects, mean (95 % interval by subject)",
        f"{table}\n\nLMI steers {model.card.id}: {verdict(swapped)}. Swapped maps must lose "
        f"{REQUIRED_LOSS:.0%} of the gain.",
        {
            "model": model.card.id,
            "weightsSHA256": model.card.weights_sha256,
            "steps": options.steps or PLAIN_STEPS,
            "seed": options.seed,
            "ssim_head": {name: asdict(value) for name, value in summaries.items()},
            "share_lost": {name: asdict(value) for name, value in lost.items()},
            "subjects": figures,
            "steers": swapped.value >= REQUIRED_LOSS,
            "steers_by_lower_end": swapped.low >= REQUIRED_LOSS,
        },
    )
    return 0


def _parser() -> Arguments:
    parser = command("steering", "Does LMI steer the diffusion?", add_model, add_steps, add_seed)
    add_run(parser, names=("tcga-lgg", "synthrad2023-brain"))  # slices all of one shape
    add = parser.add_argument
    add("--subjects", type=int, metavar="N", help="only the first N subjects")
    add("--slices", type=int, default=4, metavar="N", help="slices per subject (default 4)")
    return parser
