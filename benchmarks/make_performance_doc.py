"""Writes docs/performance.md and its picture from the result files in this folder.

    make performance        (or: python benchmarks/make_performance_doc.py)

Which file belongs to which table its name says: `lmi_*.json`, `sampler_*.json`, `speed_*.json`.
No figure of a result file is written by hand, and a test compares the document with the files. The
picture carries a digest of the figures that it shows; drawing it needs matplotlib.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "MIDiffusionTranslate"))

from midiffusion.evaluation.report import markdown_table  # noqa: E402
from midiffusion.evaluation.speed.tables import exponents, lmi_table, place, table  # noqa: E402

RESULTS = ROOT / "benchmarks"
DOCUMENT = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/images/growth.svg"

_HEAD = """# How fast

*Written by `make performance` from the result files in `benchmarks/`; not to be edited by hand.*

Every line names where it was measured: device, threads, the number format of the network,
version of PyTorch, and what else a reader has to know. Ratios are of two sides measured in turns
in one run. Times are by the clock on the wall; on one thread of a CPU the evaluation, the stages
of a volume and the growth are processor time instead, which other programs disturb little. What
was not measured says so; the commands for a GPU are in [gpu-runbook.md](gpu-runbook.md). Lines of
another number of threads than the computer's come from the same command with `--threads`."""

_PICTURE = "![Time and memory against slices and their side](images/growth.svg)"
_SECTIONS = {
    "volume": """## A whole volume

160 slices of 128 x 128 pixels from voxels to voxels, one sample, the steps of the model's card.
*Processor seconds* are those of all threads: on an idle CPU nearly the seconds times the
threads, much less where others used the computer. The stages are those of a second run; a third
makes the agreement map as well, as the panel's do.

```
midiffusion benchmark speed --parts volume --json benchmarks/speed_volume_NAME.json
```""",
    "evaluation": """## One evaluation, milliseconds a slice

*Evaluation*: network and cross maps. *LMI of a run*: self and cross maps over a run of the
card's steps; above a noise level there are no cross maps. *Utilisation*: operations of the
network a second over those of the fastest square matrix product, in the same number format, on
the same device, in the same run; above 100 %, that product was not the most that the device can
do.

```
midiffusion benchmark speed --parts evaluation --json benchmarks/speed_evaluation_NAME.json
```""",
    "lmi": """## LMI against its definition

One slice of 128 x 128 pixels. The definition (`midiffusion/lmi/definition.py`), on as many threads,
unfolds the neighbourhoods and keeps the joint density of all pixels in memory; a ratio is always
over that of the published mode (nine windows). The last column is the largest difference of a map
to the definition of its own estimator. Models use `kde` with the centre only; `shannon` over nine
displacements, which gains least, none of them.

```
midiffusion benchmark lmi --json benchmarks/lmi_NAME.json
```""",
    "sampler": """## Evaluations that are enough

The fewest of those tried from which on the SSIM against the real target stays within 1 % of that
of the converged sample (129 evaluations of `dpmpp_2m`), with and without detail from the source
([method.md](method.md), section 5). Noise levels have equal ratios; *edm*: those of EDM (rho 7).
[results.md](results.md) has the whole table.

```
midiffusion benchmark sampler --data DATA --schedules geometric edm \\
  --evaluations 1 2 4 6 8 10 20 40 128 \\
  --json benchmarks/sampler_flair_detail_NAME.json
midiffusion benchmark sampler --data DATA --no-detail \\
  --evaluations 1 2 4 6 8 10 20 40 128 1000 \\
  --json benchmarks/sampler_flair_NAME.json
midiffusion benchmark sampler --model t1 --direction flair:t1 --data DATA --samplers dpmpp_2m \\
  --json benchmarks/sampler_t1_detail_NAME.json
midiffusion benchmark sampler --model ct --dataset synthrad2023-brain --direction mr:ct \\
  --data DATA --subjects 24 --slices 1 --samplers dpmpp_2m \\
  --json benchmarks/sampler_ct_detail_NAME.json
```""",
    "growth": """## Growth with slices and pixels

Two evaluations, each volume in a fresh process; memory is the rise over that process with the
model loaded and a volume of two slices translated. Slices go through the network in batches, whose
memory does not grow with their number. LMI maps, noise and the solver's state are kept of one slab
of slices at a time, and grow up to its size alone: 256 slices of 128 x 128 pixels, on a GPU what
half the free memory holds; where there are several slabs, every sample computes its maps anew.
What grows with every slice is the volume itself: the source in model
units, what the model is shown of it (between MR and CT in two contrasts), the sample,
and the result.

```
midiffusion benchmark speed --parts growth --json benchmarks/speed_growth_NAME.json
```""",
    "startup": """## Start of a worker, seconds

From the start of the process, median; *first event* is when the panel has something to show, *first
progress* comes with the model loaded and one evaluation of two slices done.

```
midiffusion benchmark speed --parts startup --json benchmarks/speed_startup_NAME.json
```""",
    "panel": """## The panel

By the tests' host: Slicer's MRML and VTK, the real worker, the agreement map with every result, but
no views. *Foretold*: what the panel says before the click; on a computer's first run by the card,
for each device that it names. *Longest wait* of the event loop, with 160 slices of 256 x 256
voxels, by the clock and of the processor.

```
QT_QPA_PLATFORM=offscreen python benchmarks/measure_panel.py benchmarks/panel_NAME.json
```""",
}

# Single measurements that decided something and that no command repeats.
_TRIED = """## Tried

Single measurements that decided something; no command repeats them, and code has changed since.
Processor time on one thread of an AMD EPYC with AVX512-BF16 and AVX512-VNNI, PyTorch 2.13.

Kept:

- *Noise levels with equal ratios* in place of those of EDM (rho 7), `dpmpp_2m`: root mean square
  distance to 65 evaluations, chosen on training slices among rho 2 to infinity and a last level of
  0.01 to 0.2, and here on 4 slices of validation subjects. A last level of 0.03 is nearer at 4
  evaluations (.019, .025, .029), and farther at 8 for two of the three. SSIM in the head against
  the real target, 8 evaluations with detail, 12 slices: .676 to .678, .620 to .624, .666 to .670.

  | evaluations | `ct` | `flair` | `t1` |
  | --- | ---: | ---: | ---: |
  | 4 | .024 to .022 | .035 to .027 | .037 to .032 |
  | 6 | .014 to .010 | .023 to .010 | .026 to .012 |
  | 8 | .0093 to .0059 | .0133 to .0074 | .0131 to .0063 |
- *The kernels and entropies of an image once for all its pairs* in the agreement map, which
  compares four images in five: 54 and 56 ms a slice of 128 x 128 in place of 77 and 81, in turns
  on two threads of an Intel Xeon, the same map to a hundred-millionth of its sum. On noise,
  which takes longer, smaller tiles of 2, 1 and a half slice took 83, 111 and 190 ms in place of 62;
  8 and 16 slices at once 66 and 62 in place of 71, for two and four times the memory: not done.
- *One logarithm for two samples* in the closed form of LMI: cross maps take .90 of the time, in
  turns in one run, equal to 2e-6. One for three samples would err by up to 1.4e-5.
- *A running mean by planes, one copy less in the solver, maps that go before the last sample is
  brought back*: 25 bytes of memory for each voxel in place of 37 (512 slices, without detail).
- *Large volumes slab by slab, their detail some slices after the other*: 1024 slices of 128 x 128
  took 696 MB in place of 1258, before noise was taken out and detail had layers. Neither changes a
  bit of the result.
- *The couch of a CT source found some slices at a time*: 9.7 s for 256 slices of 128 x 128 in place
  of 18.8, and next to no memory in place of 740 MB. Its window plane by plane: 2 volumes of float32
  in place of 5.4. Then *connected parts found along whole runs of pixels*: .27 s for 16 slices in
  place of .74, the same parts.
- *Sampling that ends at a noise level of 0.5* where detail follows: 4 evaluations are within 1 % of
  the converged SSIM there (table above), where 6 were needed down to 0.01, and the converged result
  is nearer to the real target ([results.md](results.md), *Detail from the source*).
- *Wide windows of the detail half a standard deviation apart*, not round every pixel: with two
  layers of 15 mm .85 processor seconds for 160 slices in place of 2.4, the same result to a
  hundredth. *Masks of the head grown by maxima of neighbours* in place of pooling: .02 s in place
  of .23 for ten pixels and 160 slices, the same masks. *Connected parts in
  whole numbers of 32 bits*: .115 s in place of .197 for 44 slices (Intel Xeon), the same parts.
- *LMI by one Triton kernel a map* where CUDA and Triton are: proven equal to the definition by the
  interpreter, compiled for three generations of GPUs, and not yet timed on one.

Not kept:

- *float16* on a GPU without units for bfloat16 (Turing), which computes in float32: not tried, for
  want of one.
- *int8 convolutions*: one layer of the network takes .49 to .64 of its time in bfloat16, but only
  the convolutions would gain, each model would need a calibration of its own, and the quantisation
  that comes with PyTorch is on its way out. What the quality would be was not measured.
- *torch.compile* on a CPU: needs a C++ compiler, which users of Slicer rarely have, and had taken
  18 processor seconds, as much as a volume, without being ready when the attempt was ended. What
  it would save was not measured; for a GPU see [gpu-runbook.md](gpu-runbook.md).
- *Distillation* to 4 evaluations or 1: not tried, because it has nothing to gain. A student
  imitates the teacher's samples. In 4 evaluations the teacher itself is within 1 % of its converged
  result with detail (without, in 8); and its single evaluation, which `--steps 1` gives, is nearer
  to the real target than the samples that a one-step student would imitate (SSIM in the cards,
  *1 evaluation*).
- *The source's kernels kept for all steps*: by their number a fifth of the cross maps' work (not
  measured), for as much memory again as a run has (48 bytes a pixel).
- *All displacements of LMI in one tensor* (a third of the operations): no faster on one thread,
  since the tensor leaves the cache; nor is a matrix product for the sums over the patch.
- *Pinned memory, and resampling beside the sampling*: not tried, for want of a GPU to measure them
  on. What goes to and fro are the source's slices, noise and masks, and the weights of each
  sample's detail: by the code about ten images of 10 MB for 160 slices, once a run, not every step.
  Noise is taken out, slices and masks are made on the CPU, before the first evaluation and after
  the last, so that all devices give the same. Two threads take .8 to 2.7 s of a volume for that
  (*to slices* and *to voxels* above), which on a fast GPU will be most of it.
- *No preview*: panel and command line fetch one slice after each evaluation. It makes the host wait
  for the device four times a run, and is what keeps the progress true.
- *A worker that stays* between runs: it would save importing PyTorch and loading the model, about a
  second of a run, and would hold its memory, on a GPU that of others too, while nobody translates;
  and ending with each run is what makes cancel, crash and a lost Slicer safe."""


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
    parts.append(_TRIED)
    return "\n\n".join(parts) + "\n"


def _section(folder: Path, part: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The reports of a section and what stands below its text."""
    if part == "lmi":
        found = reports(folder, "lmi")
        return found, [lmi_table(found)] if found else []
    if part == "sampler":
        found = reports(folder, "sampler")
        return found, [_sampler(found)] if found else []
    if part == "panel":
        found = reports(folder, "panel")
        return found, [_foretold(found), _waits(found)] if found else []
    found = [report for report in reports(folder, "speed") if part in report]
    tables = [table(found, part)] if found else []
    if part == "growth":
        tables += [exponents(report) for report in found]
        tables += [_PICTURE] if found else []
    return found, tables


def _sampler(found: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(n for r in found for n in r["evaluations_for_99_percent_ssim"]))
    rows = [
        [
            f"{report['model']}, {report['direction']}, {report['slices']} slices, "
            f"{'with' if report['detail'] else 'without'} detail, {report['device']}"
        ]
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


def _foretold(found: list[dict[str, Any]]) -> str:
    """Each run of each report that has some."""
    rows = []
    for report in found:
        for run in report.get("estimates", []):
            foretold = "; ".join(
                f"{seconds:.1f}" + (f" ({device})" if device else "")
                for device, seconds in run["foretold_s"].items()
            )
            side = round(128 * run["share"])
            what = f"{run['model']}, {run['slices']} slices of {side} x {side}"
            evaluations = f"{run['steps']} x {run['samples']}"
            rows.append([report["device"], what, evaluations, foretold, f"{run['taken_s']:.1f}"])
    if not rows:
        return "Not measured: what was foretold, and taken."
    return markdown_table(["device", "run", "evaluations", "foretold, s", "taken, s"], rows)


def _waits(found: list[dict[str, Any]]) -> str:
    """The longest turn of the event loop, milliseconds."""
    names = list(dict.fromkeys(name for report in found for name in report["longest"]))
    rows = []
    for report in found:
        note = f"; {report['note']}" if report.get("note") else ""
        turns = [report["longest"].get(name) for name in names]
        cells = [
            f"{t['milliseconds']:.0f} ({t['processor_milliseconds']:.0f})" if t else ""
            for t in turns
        ]
        rows.append([report["device"] + note, *cells])
    return markdown_table(["longest wait, ms", *names], rows)


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
    for row, name in enumerate(("seconds, two evaluations", "memory, MB")):
        axes[row, 0].set_ylabel(name)
    named = axes[0, 0].get_legend_handles_labels()
    if named[0]:
        figure.legend(*named, loc="outside upper left", fontsize=7)
    figure.savefig(target, metadata={"Date": None, "Description": digest(folder)})
    pyplot.close(figure)


if __name__ == "__main__":
    DOCUMENT.write_text(document(RESULTS), encoding="utf-8")
    if digest(RESULTS) is not None:
        draw(RESULTS, PICTURE)
