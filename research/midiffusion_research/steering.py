"""`midiffusion-research steering`: does LMI steer the diffusion, or would any maps do?

The published method, whose only condition are LMI maps, is trained on the targets of the training
subjects as in the ablation. The same validation slices are then sampled with the same noise under
four conditions:

- *right*: LMI of the subject's own source;
- *swapped*: LMI of the next subject's source, at the same relative height of the head, which is the
  hardest wrong condition that there is;
- *blank*: LMI of an empty source, which is zero everywhere;
- *unconditional*: the same zero maps (the model's condition dropout) under noise of its own: a draw
  from the prior, which marks the zero of the gain.

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
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidParameter
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

from midiffusion_research.training.configuration import TrainingConfig

from .ablation import NETWORK, SIZE
from .baselines.method import Budget
from .baselines.scratch import FromScratch
from .baselines.slices import source_units
from .bootstrap import Interval, interval, statistic_interval
from .datasets import Subject
from .options import add_run, add_seed, command, require
from .report import estimate_text, markdown_table, say
from .run import Run
from .scorer import score_subject

# source [S, H, W] in [0, 1.25], its volume's geometry, seed -> sample
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
        units, _ = source_units(subject.source)
        count = min(slices, len(units))
        heights = np.linspace(_LOWEST, _HIGHEST, count) if count > 1 else np.array([0.5])
        rows = np.round(heights * (len(units) - 1)).astype(int)
        cut.append(
            replace(
                subject,
                source=Volume(units[rows], subject.source.ijkToRAS),
                target=subject.target[rows],
                head=subject.head[rows],
                tumour=None,
            )
        )
    return cut


def trained(run: Run, train: Sequence[Subject], steps: int, seed: int) -> FromScratch:
    """The published method, trained for so many steps. Raises InvalidParameter where the target
    has no training configuration."""
    target = run.data.bundles.get(run.target)
    if target is None:
        raise InvalidParameter(f"No training configuration serves {run.name}.")
    config = replace(TrainingConfig.for_target(target), network=NETWORK, seed=seed)
    method = FromScratch("as shipped", config, size=SIZE, device=str(run.device))
    method.fit(train, Budget(steps=steps))
    return method


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, subjects=2, slices=1, steps=1, seed=0)
    run = Run.of(options)
    train = [subject.at(SIZE) for subject in run.subjects("train")]
    subjects = [subject.at(SIZE) for subject in run.subjects(most=options.subjects)]
    method = trained(run, train, options.steps, options.seed)
    figures = steering_figures(method.draw, model_sources(subjects, options.slices), options.seed)
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
        f"{options.steps} training steps, {len(subjects)} subjects, mean (95 % interval by "
        "subject)",
        f"{table}\n\nLMI steers: {verdict(swapped)}. Swapped maps must lose "
        f"{REQUIRED_LOSS:.0%} of the gain.",
        {
            "training_steps": options.steps,
            "size": SIZE,
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
    parser = command("steering", "Does LMI steer the diffusion?", add_seed)
    add_run(parser, names=("tcga-lgg", "synthrad2023-brain"))  # slices all of one shape
    add = parser.add_argument
    add("--subjects", type=int, metavar="N", help="only the first N subjects")
    add("--slices", type=int, default=4, metavar="N", help="slices per subject (default 4)")
    add("--steps", type=int, default=1500, metavar="N", help="of training (default 1500)")
    return parser
