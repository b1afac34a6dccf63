"""`midiffusion-research ablation`: what each choice of the method is worth, a row per change.

Every row is our own method, trained from the start on the targets of the training subjects for the
same number of steps with one thing changed in the target's shipped training configuration, and
scored on the frozen validation subjects, all at 64 x 64 with a small network: a question of hours
on a GPU takes minutes on a CPU. What wins here need not win at full size and budget; what loses
clearly hardly will.

A row that the result file of `--json` already has, with the same settings and the same code, is not
computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidParameter, UnreadableFile

from midiffusion_research.training.configuration import TrainingConfig

from .baselines.method import Budget
from .bootstrap import interval
from .cells import digest
from .codeversion import code_version
from .datasets import Subject
from .options import add_run, add_seed, command, require
from .report import estimate_text, markdown_table, say, write_json
from .run import Run
from .scorer import FIGURES, SubjectFigures, score_subject, summary

SIZE = 64
NETWORK = {"channels": [32, 64, 96, 128], "blocks": 1, "patch": 2}
_AMPLITUDES = ("texture", "suppression", "bias", "blur", "noise", "shift")
_PLAIN = {"mapping": "none"} | dict.fromkeys(_AMPLITUDES, 0.0)

SHIPPED = "as shipped"
# Fields of `TrainingConfig` that a row changes; those of `lmi` and `contrast` one by one. What is
# in `_SAMPLING` is an argument of `FromScratch.sampled`, and needs no training of its own; `cross`
# chooses the class.
ROWS: dict[str, Mapping[str, Any]] = {
    SHIPPED: {},
    "mean of 4 samples": {"samples": 4},
    "1 evaluation": {"evaluations": 1},
    "contrast as it is": {"contrast": _PLAIN, "extraction": 0.0, "cut": 0.0},
    "order of intensities kept": {"contrast": {"mapping": "monotone", "plateaus": 0.0}},
    "no texture": {"contrast": {"texture": 0.0}},
    "knots at tissue": {"contrast": {"knots_at": "tissue"}},
    "one scale": {"lmi": {"dilations": [1]}},
    "a fourth scale, dilation 8": {"lmi": {"dilations": [1, 2, 4, 8]}},
    "narrow kernels": {"lmi": {"bandwidths": [0.02, 0.04]}},
    "wide kernels": {"lmi": {"bandwidths": [0.12, 0.35]}},
    "four kernels": {"lmi": {"bandwidths": [0.02, 0.05, 0.12, 0.3]}},
    "fixed bins (shannon)": {"lmi": {"estimator": "shannon"}},
    "no cross term": {"lmi": {"cross_dilations": [], "cross_bandwidths": []}},
    "cross term at every noise level": {"lmi": {"cross_sigma_max": 1000.0}},
    "cross term on the last estimate": {"cross": "estimate"},
    "no condition dropout": {"dropout": 0.0},
    "guidance of weight 1.5": {"weight": 1.5},
    "guidance of weight 2": {"weight": 2.0},
    "gradient of LMI besides": {"gradient": 0.2},
    "gradient of LMI alone": {"weight": 0.0, "gradient": 0.5},
}
_SAMPLING = ("samples", "evaluations", "weight", "gradient")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    require(options, steps=1, seed=0)
    run = Run.of(options)
    target = run.data.bundles.get(run.target)
    if target is None:
        raise InvalidParameter(f"No training configuration serves {run.name}.")
    shipped = TrainingConfig.for_target(target)
    settings = {
        **run.settings,
        "code": code_version(__name__),
        "configuration": digest(shipped.to_dict()),
        "size": SIZE,
        "steps": options.steps,
        "seed": options.seed,
    }
    report = _known(options.json, settings)
    rows: dict[str, Any] = report["rows"]
    missing = [row for row in options.rows if row not in rows]
    if missing:
        train = [s.at(SIZE) for s in run.subjects("train")]
        subjects = [s.at(SIZE) for s in run.subjects()]
        for group in _by_training(missing):
            for row, figures in _measure(group, shipped, train, subjects, run, options).items():
                rows[row] = figures
                mean = summary(figures)["ssim"].value
                say(f"{run.name}: {row}: SSIM head {mean:.3f}", last=True)
            if options.json is not None:
                write_json(options.json, report)
    run.show(
        f"{SIZE} x {SIZE}, {options.steps} steps",
        markdown({row: rows[row] for row in options.rows}),
    )
    return 0


def markdown(rows: Mapping[str, Mapping[str, SubjectFigures]]) -> str:
    """A row per setting, a column per figure (of subjects, by row), with intervals by subject; the
    change of SSIM against `SHIPPED`, where that is a row, is of the same subjects."""
    summaries = {name: summary(figures) for name, figures in rows.items()}
    shown = [f for f in FIGURES if f.key in ("ssim", "psnr", "ssim_full", "psnr_full", "mae")]
    shipped = rows.get(SHIPPED)
    return markdown_table(
        ["Changed", "SSIM head, change", *(f.heading for f in shown)],
        [
            [
                name,
                "" if shipped is None or name == SHIPPED else _change(rows[name], shipped),
                *(estimate_text(values.get(f.key), f.decimals) for f in shown),
            ]
            for name, values in summaries.items()
        ],
    )


def _change(row: Mapping[str, SubjectFigures], shipped: Mapping[str, SubjectFigures]) -> str:
    differences = [row[subject]["ssim"] - found["ssim"] for subject, found in shipped.items()]
    return estimate_text(interval(differences), 3)


def _by_training(rows: Sequence[str]) -> list[list[str]]:
    """Rows that differ in how they sample alone share one training."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        trained = {k: v for k, v in ROWS[row].items() if k not in _SAMPLING}
        groups.setdefault(json.dumps(trained, sort_keys=True), []).append(row)
    return list(groups.values())


def _measure(
    group: Sequence[str],
    shipped: TrainingConfig,
    train: Sequence[Subject],
    subjects: Sequence[Subject],
    run: Run,
    options: argparse.Namespace,
) -> dict[str, dict[str, SubjectFigures]]:
    """Figures by subject of each row of a group."""
    from .baselines.onestimate import OnEstimate
    from .baselines.scratch import FromScratch

    changes = {k: v for k, v in ROWS[group[0]].items() if k not in _SAMPLING}
    merged: dict[str, Any] = {
        k: {**getattr(shipped, k), **v} if isinstance(v, Mapping) else v for k, v in changes.items()
    }
    kind = OnEstimate if merged.pop("cross", None) == "estimate" else FromScratch
    config = replace(shipped, network=NETWORK, seed=options.seed, **merged)
    method = kind(group[0], config, size=SIZE, device=str(run.device))
    method.fit(train, Budget(steps=options.steps))
    found = {}
    for row in group:
        sampling = {k: v for k, v in ROWS[row].items() if k in _SAMPLING}
        drawn = method.sampled(row, **sampling)
        found[row] = {
            s.id: score_subject(drawn.translate(s.source), s, None, run.modality) for s in subjects
        }
    return found


def _known(path: Path | None, settings: Mapping[str, object]) -> dict[str, Any]:
    """The report of a result file, if it was made with these settings, else one without rows."""
    if path is not None and path.is_file():
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableFile(f"{path} is not a result file: {error}") from error
        if all(report.get(key) == value for key, value in settings.items()):
            return dict(report)
        raise InvalidParameter(
            f"{path} holds rows of other settings or other code; name another file, or remove it."
        )
    return {**settings, "rows": {}}


def _parser() -> Arguments:
    parser = command("ablation", __doc__, add_seed)
    add_run(parser, default="synthrad2023-brain")
    add = parser.add_argument
    text = "default: all; those that the file of --json has are taken from it"
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=text)
    add("--steps", type=int, default=1500, metavar="N", help="of training, each row (default 1500)")
    return parser
