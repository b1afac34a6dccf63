"""How samples compare with the mean and with the real target, on whole heads.

    midiffusion-research samples --data DIR --out FILE.json [--subjects p01 ...]

For every pair of MR contrasts: brain correlation of the mean (without the detail step), of one
sample and of the mean of four; and the gradient magnitude of one sample, relative to that of the
real target, on the network's grid. All MR targets use the shared denoiser, also those whose cards
offer no samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.images.grid import SliceGrid
from midiffusion.images.io import read_volume
from midiffusion.pipeline.target import TargetModel, load_model

from .whole_heads import Pair, figures, head_and_brain, pairs

STEPS = 8


def gradient(slices: np.ndarray, mask: np.ndarray) -> float:
    """Mean gradient magnitude in the planes of [S, H, W], per pixel, inside a mask."""
    down, across = np.gradient(slices, axis=(1, 2))
    return float(np.hypot(down, across)[mask].mean())


def compare(pair: Pair, model: TargetModel) -> dict[str, Any]:
    """The figures of one pair."""
    source, reference = read_volume(pair.source_file), read_volume(pair.target_file)
    real = reference.data.astype(np.float32)
    head, brain = head_and_brain(real, reference, pair.extracted)
    real = real / np.percentile(real[head], 99.5)
    grid = SliceGrid.of(reference, model.card.pixel_mm, "axial", model.multiple)
    masks = [grid.to_slices(mask.astype(np.float32)) > 0.9 for mask in (brain, head)]
    results = [
        model.translate(source, without=("detail",)).volume.data,
        model.translate(source, steps=STEPS).volume.data,
        model.translate(source, steps=STEPS, samples=4).volume.data,
    ]
    correlations = [figures(pair, result, None, reference).brain_r for result in results]
    sample = results[1]
    gain = float((sample[head] * real[head]).sum() / (sample[head] ** 2).sum())
    shown, wanted = grid.to_slices(sample * gain), grid.to_slices(real)
    in_brain, in_head = (gradient(shown, m) / gradient(wanted, m) for m in masks)
    return {
        "subject": pair.subject,
        "source": pair.source,
        "target": pair.target,
        **dict(zip(("mean_r", "sample_r", "four_samples_r"), correlations, strict=True)),
        "gradient_brain": round(in_brain, 2),
        "gradient_head": round(in_head, 2),
    }


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research samples", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with openms_wholehead")
    parser.add_argument("--out", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--subjects", nargs="*", help="subjects to measure; default: all")
    options = parser.parse_args(argv)
    denoiser = load_model("t1").denoiser
    rows = []
    for pair in pairs(options.data):
        if pair.extracted or options.subjects and pair.subject not in options.subjects:
            continue
        model = load_model(pair.target)
        model.denoiser = denoiser
        rows.append(compare(pair, model))
        print(rows[-1], flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0
