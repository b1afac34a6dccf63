"""`midiffusion-research sampler`: quality against network evaluations, for every sampler.

Translates a few slices of the validation subjects with each sampler and number of
evaluations, by the same call that users make and from the same noise. Two questions are
answered apart: how near is the result to the *real* target (SSIM, PSNR in the head), and, for the
samplers of the ODE, how near to the *converged* sample, the end of the same path in many steps. The
former may peak before convergence: few steps blur, and a blurred image scores well. Samplers of the
SDE have no path to converge along, and no distance.

Prints a table on stdout, progress on stderr; `--json` keeps the figures and names the device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.diffusion.samplers import SAMPLERS
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.pipeline.target import TargetModel
from numpy.typing import NDArray

from .baselines.diffusion import MIDiffusion
from .datasets import Subject
from .options import add_model, add_run, add_seed, command, require
from .report import markdown_table
from .run import Run
from .scorer import score_subject

_SIZE = 128
_CONVERGED = "dpmpp_2m"
_SHARE = 0.99

Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """One sampler at one budget: means over the subjects, in model units.

    evaluations: those spent, at most `budget`. distance: root mean square difference to the
    converged sample in the head, None for a stochastic sampler. seconds: of all slices together.
    """

    sampler: str
    budget: int
    evaluations: int
    ssim: float
    psnr: float
    distance: float | None
    seconds: float


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, subjects=1, slices=1, converged=2, evaluations=2, seed=0)
    run = Run.of(options)
    model = run.model(options)
    subjects = [s.some(options.slices) for s in run.subjects(most=options.subjects)]
    rows = measure(
        model,
        subjects,
        run.modality,
        options.samplers,
        sorted(set(options.evaluations)),
        options.converged,
        seed=options.seed,
        device=options.device,
    )
    slices = sum(len(subject.target) for subject in subjects)
    near = enough(rows)
    found = [
        f"{name}: within 1 % of the converged SSIM from {evaluations or 'none of these'} on"
        for name, evaluations in near.items()
    ]
    run.publish(
        f"{model.card.id}, {slices} slices of {len(subjects)} subjects",
        "\n".join([markdown(rows), "", *found]),
        {
            "model": model.card.id,
            "weights_sha256": model.card.weights_sha256,
            "subjects": [subject.id for subject in subjects],
            "slices": slices,
            "seed": options.seed,
            "rows": [asdict(row) for row in rows],
            "evaluations_for_99_percent_ssim": near,
        },
    )
    return 0


def measure(
    model: TargetModel,
    subjects: Sequence[Subject],
    target: str,
    samplers: Sequence[str],
    budgets: Sequence[int],
    converged: int,
    *,
    seed: int = 0,
    device: str = "auto",
) -> list[Row]:
    """A row for the converged sample (dpmpp_2m with `converged` evaluations), then one for every
    sampler and budget. target: modality, as the scorer takes it."""
    last = TranslationOptions(steps=converged, seed=seed, sampler=_CONVERGED, device=device)
    limit, first = _row(model, subjects, target, last, None)
    rows = [first]
    for name in samplers:
        against = None if SAMPLERS[name].stochastic else limit
        for budget in budgets:
            how = replace(last, steps=budget, sampler=name)
            rows.append(_row(model, subjects, target, how, against)[1])
    return rows


def _row(
    model: TargetModel,
    subjects: Sequence[Subject],
    target: str,
    how: TranslationOptions,
    limit: Outputs | None,
) -> tuple[Outputs, Row]:
    sampler, budget = how.sampler, how.steps
    method = MIDiffusion(model, how)
    started = time.monotonic()
    outputs = {subject.id: method.translate(subject.source) for subject in subjects}
    seconds = time.monotonic() - started
    figures = [score_subject(outputs[s.id], s, _SIZE, target) for s in subjects]
    distance = None
    if limit is not None:
        squares = [np.square(outputs[s.id] - limit[s.id])[s.head].mean() for s in subjects]
        distance = float(np.sqrt(np.mean(squares)))
    row = Row(
        sampler,
        budget,
        SAMPLERS[sampler].evaluations(SAMPLERS[sampler].steps(budget)),
        float(np.mean([figure["ssim"] for figure in figures])),
        float(np.mean([figure["psnr"] for figure in figures])),
        distance,
        round(seconds, 2),
    )
    print(
        f"{row.sampler}, {row.evaluations} evaluations: {seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return outputs, row


def enough(rows: Sequence[Row]) -> dict[str, int | None]:
    """For each sampler the fewest evaluations from which on, in all larger budgets
    measured, SSIM stays within 1 % of the converged sample's (the first row); None if there are
    none. Higher does not count: too few evaluations give nearly the mean, which scores well and
    shows less."""
    off = (1 - _SHARE) * rows[0].ssim
    found: dict[str, int | None] = {}
    for row in rows[1:]:
        if abs(row.ssim - rows[0].ssim) > off:
            found[row.sampler] = None
        elif found.get(row.sampler) is None:
            found[row.sampler] = row.evaluations
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table; the first is the converged sample."""
    header = ["Sampler", "Evaluations", "SSIM head", "PSNR head (dB)", "To converged", "Seconds"]
    return markdown_table(
        header,
        [
            [
                row.sampler if number else f"converged ({row.sampler})",
                str(row.evaluations),
                f"{row.ssim:.4f}",
                f"{row.psnr:.2f}",
                "" if row.distance is None else f"{row.distance:.4f}",
                f"{row.seconds:.1f}",
            ]
            for number, row in enumerate(rows)
        ],
    )


def _parser() -> Arguments:
    parser = command("sampler", __doc__, add_model, add_run, add_seed)
    add = parser.add_argument
    add("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS), metavar="NAME")
    add("--evaluations", nargs="+", type=int, default=[2, 4, 6, 8, 10, 20, 40], metavar="N")
    add("--converged", type=int, default=129, metavar="N", help="evaluations of the limit")
    add("--subjects", type=int, default=4, metavar="N", help="the first N (default 4)")
    add("--slices", type=int, default=3, metavar="N", help="of each subject (default 3)")
    return parser
