"""Loss of brain correlation on whole heads whose source is disturbed.

midiffusion-research whole-head-robustness --data DIR --out FILE.json [--subjects p01 ...]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.images.intensity import PercentileIntensity
from midiffusion.images.io import read_volume
from midiffusion.pipeline.target import TargetModel, load_model

from .disturbances import DISTURBANCES
from .whole_heads import figures, pairs

NAMES = (
    "bias field, 0.8 to 1.2 times",
    "bias field, 0.5 to 2 times",
    "noise, 3 % (CT 30 HU)",
    "noise, 10 % (CT 90 HU)",
    "contrast 0.4 times",
    "gamma 0.5",
    "gamma 2",
    "blurred, 1.5 mm",
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research whole-head-robustness", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with openms_wholehead")
    parser.add_argument("--out", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--subjects", nargs="*", help="subjects to measure; default: all")
    options = parser.parse_args(argv)
    models: dict[str, TargetModel] = {}
    found: dict[str, dict[str, list[float]]] = {}
    for pair in pairs(options.data):
        if pair.extracted or options.subjects and pair.subject not in options.subjects:
            continue
        model = models.setdefault(pair.target, load_model(pair.target))
        source, real = read_volume(pair.source_file), read_volume(pair.target_file)
        units, _ = PercentileIntensity().forward(source.data)
        clean = source.with_data(units.astype(np.float32), source.modality)
        for name in ("none", *NAMES):
            disturb = DISTURBANCES[name].values if name != "none" else None
            data = units if disturb is None else disturb(clean, np.random.default_rng(0))
            made = model.translate(source.with_data(data, source.modality), source="mr")
            r = figures(pair, made.volume.data, None, real).brain_r
            found.setdefault(name, {}).setdefault(pair.target, []).append(r)
    document = {n: {t: round(mean(r), 3) for t, r in by.items()} for n, by in found.items()}
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    targets = list(document["none"])
    print("| source | " + " | ".join(targets) + " |")
    print("| --- |" + " ---: |" * len(targets))
    for name, by in document.items():
        print(f"| {name} | " + " | ".join(f"{by[t]:.3f}".lstrip("0") for t in targets) + " |")
    return 0
