"""`midiffusion-research robustness`: how much of its quality a model loses to a worse source.

The sources of the validation subjects are disturbed in known ways and doses (see `disturbances`),
by the same seed always in the same way, and translated by the call that users make, under the same
noise as the undisturbed ones. A figure is the change against the undisturbed source of the same
subject, so that subjects are paired.

Where the disturbance moves the picture (turned, cut, other pixels, no scalp), the target and the
result from the undisturbed source are moved in the same way first: what interpolation alone does is
not counted against the model, and what is no longer in the picture not at all.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.errors import UnlikelySource
from midiffusion.images.volume import Volume
from midiffusion.pipeline.options import TranslationOptions

from .baselines.diffusion import MIDiffusion
from .bootstrap import Interval, interval
from .datasets import Subject
from .disturbances import DISTURBANCES, Disturbance, Stack, View
from .options import add_model, add_run, add_seed, add_steps, command, require
from .report import estimate_text, markdown_table, say
from .run import Run
from .scorer import score_subject

UNDISTURBED = "undisturbed"
_BRIGHT = 99.5  # percentile inside the head that has the value 1 in MR

# A source in model units -> the result, likewise, and whether the model warned of the source.
Translate = Callable[[Volume], tuple[Stack, bool]]


@dataclass(frozen=True)
class Response:
    """Of one subject to one disturbance: figures inside the head with it and without, on the same
    picture; mae is in HU for CT, else in model units. warned: of the disturbed source."""

    ssim: float
    ssim_before: float
    mae: float
    mae_before: float
    warned: bool


# By disturbance, then by subject.
Responses = dict[str, dict[str, Response]]


def responses(
    translate: Translate,
    subjects: Sequence[Subject],
    modality: str,
    *,
    names: Sequence[str] = tuple(DISTURBANCES),
    slices: int | None = None,
    seed: int = 0,
) -> Responses:
    """Of every subject to each disturbance that suits it; the first is `UNDISTURBED`.

    modality: the target's. slices: how many of each subject are translated, all if None; thick
    slices are made of all of them.
    """
    found: Responses = {name: {} for name in (UNDISTURBED, *names)}
    for number, subject in enumerate(subjects, start=1):
        few = subject if slices is None else subject.some(slices)
        before, warned = translate(few.source)
        found[UNDISTURBED][subject.id] = _response(before, before, few, modality, warned)
        for name in names:
            disturbance = DISTURBANCES[name]
            if not disturbance.suits(subject.source.modality, subject.contiguous):
                continue
            key = (seed, zlib.crc32(name.encode()), zlib.crc32(subject.id.encode()))
            random = np.random.default_rng(key)
            shown, view = _disturbed(subject, few, disturbance, random, slices, modality)
            after, warned = translate(shown.source)
            reference = view(Volume(before, few.source.ijkToRAS)).data
            found[name][subject.id] = _response(after, reference, shown, modality, warned)
        say(f"{number} of {len(subjects)} subjects", last=number == len(subjects))
    return {name: by_subject for name, by_subject in found.items() if by_subject}


def _disturbed(
    subject: Subject,
    few: Subject,
    disturbance: Disturbance,
    random: np.random.Generator,
    slices: int | None,
    modality: str,
) -> tuple[Subject, View]:
    """The slices with their source disturbed, and the view by which others follow it."""
    if disturbance.view is not None:
        rescaled = disturbance.takes_brightest and modality != "CT"
        return _viewed(few, disturbance.view(few.source), rescaled)
    assert disturbance.values is not None  # one of the two
    source = subject.source
    worse = Volume(disturbance.values(source, random), source.ijkToRAS, source.modality)
    whole = replace(subject, source=worse)
    return (whole if slices is None else whole.some(slices)), lambda volume: volume


def _viewed(subject: Subject, view: View, rescaled: bool) -> tuple[Subject, View]:
    """Subject and view; rescaled: both by what is now the bright end of the reference's head."""
    grid = subject.source.ijkToRAS
    head = view(Volume(subject.head.astype(np.float32), grid)).data > 0.5
    target = view(Volume(subject.target, grid)).data
    gain = 1.0
    if rescaled:
        whole, left = subject.target[subject.head], target[head]
        gain = float(np.percentile(whole, _BRIGHT) / np.percentile(left, _BRIGHT))

    def scaled(volume: Volume) -> Volume:
        seen = view(volume)
        return replace(seen, data=seen.data * np.float32(gain))

    target = target * np.float32(gain)
    shown = replace(subject, source=view(subject.source), target=target, head=head, tumour=None)
    return shown, scaled


def _response(
    after: Stack, before: Stack, subject: Subject, modality: str, warned: bool
) -> Response:
    new, old = (score_subject(output, subject, None, modality) for output in (after, before))
    mae = "mae_hu" if "mae_hu" in new else "mae"
    return Response(new["ssim"], old["ssim"], new[mae], old[mae], warned)


def changes(by_subject: Mapping[str, Response]) -> dict[str, Interval]:
    """Mean over subjects of the change of `ssim` and `mae`, with intervals by subject."""
    answers = by_subject.values()
    return {
        "ssim": interval([a.ssim - a.ssim_before for a in answers]),
        "mae": interval([a.mae - a.mae_before for a in answers]),
    }


def markdown(found: Responses, modality: str) -> str:
    """A row per disturbance: its figure, the change, and how many sources were warned of."""
    unit, decimals = ("HU", 0) if modality == "CT" else ("model units", 4)
    rows = []
    for name, by_subject in found.items():
        answers = list(by_subject.values())
        change = changes(by_subject)
        row = [name, estimate_text(interval([a.ssim for a in answers]), 3), "", "", ""]
        if name == UNDISTURBED:
            row[3] = estimate_text(interval([a.mae for a in answers]), decimals)
        else:
            row[2] = estimate_text(change["ssim"], 3)
            row[3] = estimate_text(change["mae"], decimals)
        row[4] = f"{sum(a.warned for a in answers)} of {len(answers)}"
        rows.append(row)
    header = ["Source", "SSIM head", "change", f"change of MAE head ({unit})", "warned of"]
    return markdown_table(header, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, subjects=1, slices=1, samples=1, steps=1, seed=0)
    run = Run.of(options)
    model = run.model(options)
    subjects = run.subjects(most=options.subjects)
    how = TranslationOptions(
        steps=options.steps,
        samples=options.samples,
        seed=options.seed,
        device=options.device,
        without=() if options.detail else ("detail",),
    )
    method = MIDiffusion(model, how)

    def translate(source: Volume) -> tuple[Stack, bool]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            result = method.translate(source)
        return result, any(issubclass(one.category, UnlikelySource) for one in told)

    found = responses(
        translate,
        subjects,
        run.modality,
        names=options.disturbances,
        slices=options.slices,
        seed=options.seed,
    )
    run.publish(
        f"{model.card.id}, {len(subjects)} subjects, {options.samples} samples of {options.steps} "
        "evaluations, mean (95 % interval by subject)",
        markdown(found, run.modality),
        {
            "model": model.card.id,
            "weightsSHA256": model.card.weights_sha256,
            "steps": options.steps,
            "samples": options.samples,
            "slices": options.slices,
            "detail": options.detail,
            "seed": options.seed,
            "change": {
                name: {key: asdict(value) for key, value in changes(by_subject).items()}
                for name, by_subject in found.items()
                if name != UNDISTURBED
            },
            "subjects": {
                name: {subject: asdict(answer) for subject, answer in by_subject.items()}
                for name, by_subject in found.items()
            },
        },
    )
    return 0


def _parser() -> Arguments:
    parser = command("robustness", __doc__, add_model, add_run, add_steps, add_seed)
    add = parser.add_argument
    add("--subjects", type=int, metavar="N", help="only the first N subjects")
    add("--slices", type=int, metavar="N", help="of each subject (default: all)")
    add(
        "--disturbances",
        nargs="+",
        choices=DISTURBANCES,
        default=list(DISTURBANCES),
        metavar="NAME",
        help="default: all",
    )
    add("--samples", type=int, default=1, metavar="K", help="samples to average (default 1)")
    add("--no-detail", dest="detail", action="store_false", help="without the step detail")
    return parser
