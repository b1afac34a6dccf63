"""Fidelity of the detail step for several windows and blurs, on training subjects.

    midiffusion-research detail-windows --data DIR --out FILE.json [--subjects 14]

T1 and FLAIR of TCGA-LGG, CT from MR of SynthRAD2023. SSIM inside the head, after one gain for MR.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from types import ModuleType
from unittest import mock

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.pipeline import translate as pipeline
from midiffusion.pipeline.detail import Detail
from midiffusion.pipeline.target import load_model

from .datasets import synthrad2023_brain, tcga_lgg
from .metrics import ssim_map

TASKS: tuple[tuple[ModuleType, str, str], ...] = (
    (tcga_lgg, "flair:t1", "t1"),
    (tcga_lgg, "t1:flair", "flair"),
    (synthrad2023_brain, "mr:ct", "ct"),
)
WINDOWS_MM, BLURS_MM = (1.0, 1.5), (0.0, 1.0, 1.3, 1.7)


def fidelity(data: Path, count: int, dataset: ModuleType, direction: str, target: str) -> float:
    """Mean SSIM inside the head over the slices of the training subjects."""
    model, values = load_model(target), []
    for subject in dataset.load(data, direction, "train", count):
        translation = model.translate(subject.source, source="mr")
        made: np.ndarray = translation.volume.data.astype(np.float32)
        head = subject.head
        if target == "ct":
            made = (made + 1000) / 3060
        else:
            gain = (made[head] * subject.target[head]).sum() / (made[head] ** 2).sum()
            made = made * np.float32(gain)
        for result, wanted, mask in zip(made, subject.target, head, strict=True):
            if mask.mean() > 0.03:
                values.append(float(ssim_map(result, wanted)[mask].mean()))
    return round(mean(values), 4)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research detail-windows", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the collections")
    parser.add_argument("--out", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--subjects", type=int, default=14, metavar="N", help="of each task")
    options = parser.parse_args(argv)
    rows = []
    for window in WINDOWS_MM:
        for blur in BLURS_MM:
            steps = tuple(
                replace(step, window_mm=window, blur_mm=blur) if isinstance(step, Detail) else step
                for step in pipeline.STEPS
            )
            with mock.patch.object(pipeline, "STEPS", steps):
                found = {t[2]: fidelity(options.data, options.subjects, *t) for t in TASKS}
            rows.append({"window_mm": window, "blur_mm": blur, **found})
            print(rows[-1], flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0
