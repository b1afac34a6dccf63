"""Writes docs/performance.md and its picture from the files in research/results.

    midiffusion-research performance        (or: make performance)

Which file belongs to which table its name says: `lmi_*.json`, `sampler_*.json`, `speed_*.json`.
No figure of a result file is written by hand, and a test compares the document with the files. The
picture carries a digest of the figures that it shows; drawing it needs matplotlib.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midiffusion.arguments import Arguments

from .report import markdown_table
from .speed.tables import exponents, lmi_table, place, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "research/results"
DOCUMENT = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/images/growth.svg"

_HEAD = """# Performance

*`make performance` writes this from the result files in `research/results/`; don't edit it.*

Each line names device, threads, number format of the network, version of PyTorch, and a note where
one is needed. Ratios are of two sides measured in turns in one run. Times are wall-clock times; on
one thread of a CPU the evaluation, the steps and the growth are processor time, which other
programs disturb little. [gpu-runbook.md](gpu-runbook.md) has the commands for a GPU."""

_PICTURE = "![Time and memory against slices and their side](images/growth.svg)"
_SECTIONS = {
    "volume": """## A whole volume

160 slices of 128 x 128 pixels in one plane from voxels to voxels, default options. *Processor
seconds* are of all threads: on an idle CPU nearly the seconds times the threads. The last columns
are seconds of single steps, from a second run.

```
midiffusion-research speed --parts volume --json research/results/speed_volume_NAME.json
```""",
    "evaluation": """## One evaluation, milliseconds a slice

A view takes the LMI maps of the source and one evaluation of the network; a diffusion step takes
the LMI maps with the state and one evaluation. *Share of LMI*: of a view. *Utilisation*: operations
of the network a second over those of the fastest square matrix product, in the same number format,
on the same device, in the same run.

```
midiffusion-research speed --parts evaluation --json research/results/speed_evaluation_NAME.json
```""",
    "lmi": """## LMI against its definition

One slice of 128 x 128 pixels. The definition, on as many threads, unfolds the neighbourhoods and
keeps the joint density of all pixels in memory; a ratio is always over that of the published mode
(nine windows). The last column is the largest difference of a map to the definition of its own
estimator. Models use `kde` with the centre only.

```
midiffusion-research lmi --json research/results/lmi_NAME.json
```""",
    "sampler": """## Evaluations that are enough

The fewest of those tried from which on the SSIM against the real target stays within 1 % of that
of the converged sample (129 evaluations of `dpmpp_2m`).

```
midiffusion-research sampler --data DATA --json research/results/sampler_flair_NAME.json
midiffusion-research sampler --model ct --dataset synthrad2023-brain --direction mr:ct \\
  --data DATA --subjects 24 --slices 1 --json research/results/sampler_ct_NAME.json
```""",
    "growth": """## Growth with slices and pixels

Two views, each volume in a fresh process; memory is the rise over that
process with the model loaded and a volume of two slices translated.

```
midiffusion-research speed --parts growth --json research/results/speed_growth_NAME.json
```""",
    "startup": """## Start of a worker, seconds

From the start of the process, median; *first event* is when the panel has something to show, *first
progress* comes with the model loaded and one batch of two slices done.

```
midiffusion-research speed --parts startup --json research/results/speed_startup_NAME.json
```""",
}


def reports(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The result files of a kind, in the order of their names."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob(f"{kind}_*.json"))]


def document(folder: Path) -> str:
    """The whole document."""
    parts = [_HEAD]
    for part, text in _SECTIONS.items():
        found, tables = _section(folder, part)
        parts += [text, *tables]
        missing = [
            name
            for name, kind in (("a CPU", "cpu"), ("a GPU", "cuda"))
            if not any(report["device"].startswith(kind) for report in found)
        ]
        if missing:
            parts.append(f"Not measured: on {' and on '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def _section(folder: Path, part: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The reports of a section and what stands below its text."""
    if part == "lmi":
        found = reports(folder, "lmi")
        return found, [lmi_table(found)] if found else []
    if part == "sampler":
        found = reports(folder, "sampler")
        return found, [_sampler(found)] if found else []
    found = [report for report in reports(folder, "speed") if part in report]
    tables = [table(found, part)] if found else []
    if part == "growth":
        tables += [exponents(report) for report in found]
        tables += [_PICTURE] if found else []
    return found, tables


def _sampler(found: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(n for r in found for n in r["evaluations_for_99_percent_ssim"]))
    rows = [
        [f"{report['model']}, {report['direction']}, {report['slices']} slices, {report['device']}"]
        + [_enough(report, name) for name in names]
        for report in found
    ]
    return markdown_table(["model", *names], rows)


def _enough(report: dict[str, Any], name: str) -> str:
    """Evaluations of a sampler, by its name in the report, that are enough."""
    found = report["evaluations_for_99_percent_ssim"]
    if name not in found:
        return "not measured"
    return str(found[name]) if found[name] else "none of those tried"


def digest(folder: Path) -> str | None:
    """Of the figures that the picture shows; None where there are none."""
    shown = [r["growth"] for r in reports(folder, "speed") if "growth" in r]
    if not shown:
        return None
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def draw(folder: Path, target: Path) -> None:
    """The picture: time and memory, against slices and pixels, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(8, 6), sharey="row", layout="constrained")
    for report in reports(folder, "speed"):
        if "growth" not in report:
            continue
        for column, axis in enumerate(("slices", "size")):
            points = report["growth"][axis]["points"]
            along = [point[axis] for point in points]
            memory = [(point["memory_bytes"] or float("nan")) / 1e6 for point in points]
            for row, values in enumerate(([point["seconds"] for point in points], memory)):
                axes[row, column].loglog(along, values, "o-", label=place(report))
                axes[row, column].set_xticks(along, [str(value) for value in along])
                axes[row, column].set_xticks([], minor=True)
    for column, name in enumerate(("slices of 128 x 128 pixels", "side of a slice, pixels")):
        axes[1, column].set_xlabel(name)
    for row, name in enumerate(("seconds, two views", "memory, MB")):
        axes[row, 0].set_ylabel(name)
    named = axes[0, 0].get_legend_handles_labels()
    if named[0]:
        figure.legend(*named, loc="outside upper left", fontsize=7)
    figure.savefig(target, metadata={"Date": None, "Description": digest(folder)})
    pyplot.close(figure)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research performance", description=__doc__.split("\n")[0])
    parser.parse_args(argv)
    DOCUMENT.write_text(document(RESULTS), encoding="utf-8")
    if digest(RESULTS) is not None:
        draw(RESULTS, PICTURE)
    return 0
