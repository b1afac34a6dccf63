"""Compares a synthetic volume with a real one.

Arrays: `synthetic.npy`, `reference.npy`. Fields of `job.json`: `synthetic_ijkToRAS` and
`reference_ijkToRAS` (4x4, to one common space), `intensity` (the map of the model's card). "done"
carries the fields of `compare.Comparison`; on the way there are
{"event": "progress", "done", "of"}.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises InvalidVolume and InvalidCard."""
    from ...compare import compare
    from ...images.intensity import intensity_map
    from ...images.volume import Volume

    def alive(done: int, of: int) -> None:
        task.check()
        task.send("progress", done=done, of=of)

    synthetic, reference = (
        Volume(task.load(name), task.job[f"{name}_ijkToRAS"]) for name in ("synthetic", "reference")
    )
    figures = compare(synthetic, reference, intensity_map(task.job["intensity"]), alive)
    return asdict(figures)
