"""`midiffusion-research uncertainty`: do error map and deviation show where a result is wrong?

Two maps come with a result and no reference: the error map (the spread of the views) and the
standard deviation over K samples. Each is compared with the true absolute error of the result,
voxel by voxel inside the head:

- *rank correlation* (Spearman) in every subject, then its mean over subjects;
- *reliability*: the voxels of a subject in ten groups of equal size by the map, and the root mean
  square error of each. If the real image were one more draw from the model, the mean of K samples
  would miss it by sqrt(1 + 1/K) times the standard deviation: that is the column `predicted`, and
  1 the ideal of `error over predicted`.

All of it twice: for the error as it is, and after one gain per subject (least squares over the
head, applied to the mean and to the deviation), since the brightness of an MR image is arbitrary.
Two predictors that anyone could have without a model's doubt stand beside them: the brightness of
the result and the strength of its edges. Intervals are by subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidData
from midiffusion.images.volume import Volume
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.pipeline.target import TargetModel
from numpy.typing import NDArray

from .baselines.diffusion import MIDiffusion, model_unit
from .bootstrap import Interval, interval, statistic_interval
from .datasets import Subject
from .metrics import best_gain
from .options import add_model, add_run, add_seed, command, require
from .report import estimate_text, markdown_table, say
from .run import Run

GROUPS = 10
REQUIRED_RANK = 0.3
DEVIATION = "standard deviation"
PREDICTORS = (DEVIATION, "error map", "brightness (control)", "edges (control)")
SCALES = ("as it is", "after one gain")

Stack = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Doubt:
    """A result with its maps, all [S, H, W] on the subject's grid, model units.

    mean, deviation: of the samples. error_map: expected absolute error.
    """

    mean: Stack
    deviation: Stack
    error_map: Stack


@dataclass(frozen=True)
class Reliability:
    """One predictor in one subject: its rank correlation with the absolute error, and by tenth of
    the voxels, from the least to the greatest doubt, the mean square of the predictor and of the
    error (model units)."""

    rank: float
    predicted_square: list[float]
    error_square: list[float]


# By scale, then by predictor.
SubjectReliability = dict[str, dict[str, Reliability]]


def reliability(predictor: Stack, error: Stack) -> Reliability:
    """Of a predictor of the size of the error; both any shape, of as many values.

    Raises InvalidData where there are too few values to group.
    """
    predictor, error = np.ravel(predictor).astype(float), np.abs(np.ravel(error)).astype(float)
    if predictor.size < GROUPS:
        raise InvalidData(f"{predictor.size} voxels are too few for {GROUPS} groups.")
    groups = np.array_split(np.argsort(predictor, kind="stable"), GROUPS)
    return Reliability(
        rank_correlation(predictor, error),
        [float(np.mean(predictor[group] ** 2)) for group in groups],
        [float(np.mean(error[group] ** 2)) for group in groups],
    )


def rank_correlation(first: Stack, second: Stack) -> float:
    """Spearman's, of two arrays of as many values, equal values sharing their mean rank; NaN where
    either is constant."""
    a, b = (_ranks(np.ravel(values)) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b)) / power if power else float("nan")


def _ranks(values: Stack) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: NDArray[np.float64] = (last - (count - 1) / 2.0)[place.ravel()]
    return ranks


def subject_reliability(doubt: Doubt, subject: Subject) -> SubjectReliability:
    """Every predictor of `PREDICTORS` inside the head, for both of `SCALES`."""
    head = subject.head
    target = subject.target[head].astype(np.float64)
    mean = np.asarray(doubt.mean, dtype=np.float64)
    edges = np.hypot(*np.gradient(mean, axis=(1, 2)))
    found: SubjectReliability = {}
    for scale, gain in zip(SCALES, (1.0, best_gain(mean[head], target)), strict=True):
        error = gain * mean[head] - target
        values = (gain * doubt.deviation, gain * doubt.error_map, gain * mean, gain * edges)
        found[scale] = {
            name: reliability(value[head], error)
            for name, value in zip(PREDICTORS, values, strict=True)
        }
    return found


def ranks_by_subject(
    figures: Mapping[str, SubjectReliability], scale: str, predictor: str
) -> list[float]:
    """The rank correlation of every subject."""
    return [found[scale][predictor].rank for found in figures.values()]


def curve(
    figures: Mapping[str, SubjectReliability], scale: str, predictor: str, samples: int
) -> list[tuple[float, Interval, Interval]]:
    """A row for each group: predicted error, root mean square error, and their quotient, squares
    being averaged over subjects, with intervals by subject. `predicted` and quotient mean
    something for the standard deviation of so many samples alone."""
    rows = [found[scale][predictor] for found in figures.values()]
    share = 1.0 + 1.0 / samples
    predicted = np.array([row.predicted_square for row in rows]) * share
    error = np.array([row.error_square for row in rows])

    def root(group: int) -> Callable[[NDArray[np.intp]], float]:
        return lambda chosen: float(np.sqrt(error[chosen, group].mean()))

    def quotient(group: int) -> Callable[[NDArray[np.intp]], float]:
        def of(chosen: NDArray[np.intp]) -> float:
            expected = predicted[chosen, group].mean()
            found = error[chosen, group].mean()
            return float(np.sqrt(found / expected)) if expected > 0 else float("nan")

        return of

    return [
        (
            float(np.sqrt(predicted[:, group].mean())),
            statistic_interval(root(group), len(rows)),
            statistic_interval(quotient(group), len(rows)),
        )
        for group in range(GROUPS)
    ]


def verdict(figures: Mapping[str, SubjectReliability]) -> tuple[bool, str]:
    """Whether the standard deviation may be called uncertainty, and a sentence that says so: its
    mean rank correlation has to reach `REQUIRED_RANK` with the error as it is and after one gain.
    """
    found = [interval(ranks_by_subject(figures, scale, DEVIATION)) for scale in SCALES]
    least = min(found, key=lambda estimate: estimate.value)
    named = all(estimate.value >= REQUIRED_RANK for estimate in found)
    doubtful = named and least.low < REQUIRED_RANK
    answer = "may be called uncertainty" if named else "is not to be called uncertainty"
    return named, (
        f"The standard deviation {answer}: rank correlation {estimate_text(least, 2)} where "
        f"{REQUIRED_RANK} is needed"
        + (", which the lower end of the interval does not reach." if doubtful else ".")
    )


def markdown(figures: Mapping[str, SubjectReliability], samples: int) -> str:
    """Both tables: rank correlations, and the reliability of the standard deviation and of the
    error map with the error after one gain."""
    ranks = [
        [name, *(estimate_text(interval(ranks_by_subject(figures, s, name)), 2) for s in SCALES)]
        for name in PREDICTORS
    ]
    header = ["Rank correlation with the absolute error", *(f"error {s}" for s in SCALES)]
    rows = []
    by_scale = [curve(figures, scale, DEVIATION, samples) for scale in SCALES]
    by_views = curve(figures, SCALES[1], PREDICTORS[1], samples)
    for group in range(GROUPS):
        plain, gained = (found[group] for found in by_scale)
        rows.append(
            [
                str(group + 1),
                f"{plain[0]:.3f}",
                estimate_text(plain[1], 3),
                estimate_text(plain[2], 2),
                estimate_text(gained[1], 3),
                estimate_text(gained[2], 2),
                estimate_text(by_views[group][1], 3),
            ]
        )
    columns = [
        "Tenth of the voxels",
        "predicted",
        "RMS error as it is",
        "over predicted",
        "RMS error after one gain",
        "over predicted",
        "by error map: RMS error after one gain",
    ]
    return markdown_table(header, ranks) + "\n\n" + markdown_table(columns, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, subjects=1, samples=2, steps=2, seed=0)
    run = Run.of(options)
    model = run.model(options)
    subjects = run.subjects(most=options.subjects)
    translate = _translator(
        model,
        steps=options.steps,
        samples=options.samples,
        seed=options.seed,
        device=options.device,
    )
    figures: dict[str, SubjectReliability] = {}
    for number, subject in enumerate(subjects, start=1):
        doubt, provenance = translate(subject.source)
        figures[subject.id] = subject_reliability(doubt, subject)
        say(f"{number} of {len(subjects)} subjects", last=number == len(subjects))
    named, sentence = verdict(figures)
    used = ("model", "weightsSHA256", "steps", "samples", "sampler", "seed")
    run.publish(
        f"{model.card.id}, {len(subjects)} subjects, {options.samples} samples, mean (95 % "
        "interval by subject)",
        f"{markdown(figures, options.samples)}\n\n{sentence}",
        {
            **{key: provenance[key] for key in used},
            "rank_correlation": {
                scale: {
                    name: asdict(interval(ranks_by_subject(figures, scale, name)))
                    for name in PREDICTORS
                }
                for scale in SCALES
            },
            "may_be_called_uncertainty": named,
            "subjects": {
                subject: {
                    scale: {name: asdict(value) for name, value in by_name.items()}
                    for scale, by_name in found.items()
                }
                for subject, found in figures.items()
            },
        },
    )
    return 0


def _translator(model: TargetModel, **how: Any) -> Callable[[Volume], tuple[Doubt, dict[str, Any]]]:
    """Result and provenance of a source by the call that users make, in model units."""
    method, (_, span) = MIDiffusion(model, TranslationOptions(**how)), model_unit(model)

    def translate(source: Volume) -> tuple[Doubt, dict[str, Any]]:
        result, made = method.with_maps(source)
        assert made.deviation is not None and made.error_map is not None  # several of both
        doubt = Doubt(result, made.deviation.data / span, made.error_map.data / span)
        return doubt, made.provenance

    return translate


def _parser() -> Arguments:
    parser = command(
        "uncertainty",
        "Do error map and standard deviation over samples show where a result is wrong?",
        *(add_model, add_run, add_seed),
    )
    add = parser.add_argument
    add("--subjects", type=int, metavar="N", help="only the first N subjects")
    add("--steps", type=int, default=8, metavar="N", help="network evaluations, 2 or more")
    add("--samples", type=int, default=8, metavar="K", help="of each slice, 2 or more (default 8)")
    return parser
