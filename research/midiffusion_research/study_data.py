"""A BIDS dataset of generated subjects: slabs of one head, each with its own brightness and noise.

midiffusion-research study-data --out STUDY --subjects 30 --slices 8
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.errors import UnwritableTarget
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume

HEAD = Path(__file__).parents[2] / "Resources" / "SampleData" / "openms_long19_T1W.nii.gz"


def subjects(head: Volume, count: int, slices: int) -> list[Volume]:
    """Slabs from the middle of a head, float32."""
    middle = len(head.data) // 2
    first = max(0, middle - slices // 2)
    slab = head.data[first : first + slices].astype(np.float32)
    matrix = head.ijkToRAS.copy()
    matrix[:3, 3] += matrix[:3, 2] * first
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        gain, noise = rng.uniform(0.5, 2), rng.uniform(0, 0.02) * slab.max()
        noisy = gain * (slab + noise * rng.normal(size=slab.shape).astype(np.float32))
        made.append(Volume(np.maximum(noisy, 0).astype(np.float32), matrix, head.modality))
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Arguments(prog="midiffusion-research study-data", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="root of the dataset, a new folder")
    parser.add_argument("--subjects", type=int, default=30, metavar="N")
    parser.add_argument("--slices", type=int, default=8, metavar="N", help="slices of each volume")
    options = parser.parse_args(argv)
    if options.out.exists():
        raise UnwritableTarget(f"{options.out} is there already: name a new folder.")
    options.out.mkdir(parents=True)
    description = {"Name": "Generated subjects", "BIDSVersion": "1.10.0", "Authors": ["none"]}
    (options.out / "dataset_description.json").write_text(json.dumps(description))
    head = read_volume(HEAD)
    for number, volume in enumerate(subjects(head, options.subjects, options.slices), start=1):
        folder = options.out / f"sub-{number:02}" / "anat"
        folder.mkdir(parents=True)
        write_volume(folder / f"sub-{number:02}_T1w.nii.gz", volume)
    print(f"{options.out}: {options.subjects} subjects")
    return 0
