"""Golden results: coarse grids of what each shipped model makes of three sources.

`make golden` (python Testing/golden.py) writes them anew after a deliberate change of the pipeline
or of the weights. The network computes in float32, so that the figures hold on every processor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from midiffusion.images.io import read_volume
from midiffusion.images.volume import Volume
from midiffusion.pipeline.target import load_model

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).parent / "library" / "data" / "golden.json"
MODELS = ("t1", "t2", "pd", "flair", "ct")
BLOCKS = (2, 6, 6)  # along k, j, i


def sources() -> dict[str, Volume]:
    """Axial slices of the bundled T1, sagittal slices of the bundled FLAIR, a computed CT with
    isotropic voxels, which is cut in three planes."""
    return {
        "t1 axial": _coarse(_sample("T1W"), (slice(20, 26), slice(None), slice(None)), (1, 4, 4)),
        "flair sagittal": _coarse(
            _sample("FLAIR"), (slice(None), slice(None), slice(118, 138)), (1, 4, 5)
        ),
        "ct": _ct(),
    }


def _sample(name: str) -> Volume:
    return read_volume(ROOT / "Resources" / "SampleData" / f"openms_long19_{name}.nii.gz")


def _coarse(volume: Volume, part: tuple[slice, ...], factor: tuple[int, int, int]) -> Volume:
    """Part of a volume, block means of `factor` voxels along k, j, i."""
    data = np.asarray(volume.data, np.float32)[part]
    matrix = volume.ijkToRAS.copy()
    for axis, (where, n) in enumerate(zip(part, factor, strict=True)):
        column = 2 - axis
        matrix[:3, 3] += matrix[:3, column] * ((where.start or 0) + (n - 1) / 2)
        matrix[:3, column] *= n
        count = data.shape[axis] // n
        data = np.take(data, range(count * n), axis)
        data = data.reshape(*data.shape[:axis], count, n, *data.shape[axis + 1 :]).mean(axis + 1)
    return Volume(data, matrix, volume.modality)


def _ct() -> Volume:
    """Head of nested ellipsoids in HU: skin, bone, brain, ventricles."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 24, 20)), indexing="ij")
    radius = np.sqrt((k / 1.4) ** 2 + (j / 0.95) ** 2 + (i / 0.9) ** 2)
    ventricles = ((j / 0.3) ** 2 + ((abs(i) - 0.15) / 0.1) ** 2) < 1
    hu = np.select([radius > 1, radius > 0.92, radius > 0.78, ventricles], [-1000, 20, 900, 5], 35)
    return Volume(hu.astype(np.float32), np.diag([-8.0, -8, 8, 1]), "CT")


@contextmanager
def float32() -> Iterator[None]:
    """Networks compute in float32, whatever the processor could do."""
    modules = ("mean", "sample", "translate")
    names = [f"midiffusion.pipeline.{module}.network_dtype" for module in modules]
    patches = [mock.patch(name, lambda device: torch.float32) for name in names]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        mock.patch.stopall()


def blocks(data: np.ndarray) -> list[int]:
    """Means over at most 2 x 6 x 6 blocks of a volume, rounded."""
    parts = [data]
    for axis, count in enumerate(BLOCKS):
        pieces = min(count, data.shape[axis])
        parts = [piece for part in parts for piece in np.array_split(part, pieces, axis)]
    return [round(float(part.mean())) for part in parts]


def figures(name: str, volume: Volume) -> dict[str, Any]:
    """What is pinned of one translation with the default options."""
    with float32():
        made = load_model(name).translate(volume, device="cpu")
    assert made.error_map is not None
    return {
        "result": blocks(made.volume.data),
        "error_map": blocks(made.error_map.data),
        "planes": made.provenance["pipeline"][2]["figures"],
        "steps": [record["name"] for record in made.provenance["pipeline"]],
        "warned": made.provenance["warning"] is not None,
    }


def weights(name: str) -> list[str]:
    """SHA-256 of the model's files."""
    card = load_model(name).card
    return [card.weights_sha256, card.backbone_sha256]


def main() -> None:
    found = {
        name: {
            "weights": weights(name),
            **{source: figures(name, volume) for source, volume in sources().items()},
        }
        for name in MODELS
    }
    lines = json.dumps(found, indent=1)
    # One line for each list: a change can be read.
    lines = re.sub(r"\[[^\[\]]*\]", lambda m: re.sub(r"\s+", " ", m[0]), lines)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(lines + "\n", encoding="utf-8")
    print(f"written: {FILE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
