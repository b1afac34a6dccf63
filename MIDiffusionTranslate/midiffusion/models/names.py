"""Names that cards, commands and the module in Slicer have in common. Needs no torch."""

from __future__ import annotations

import re

ORIENTATIONS = ("axial", "sagittal", "coronal")
CONTRASTS = ("t1", "t2", "pd", "flair", "ct")  # of the backbone, in the order of its outputs
DEFAULT_MODEL = "flair"  # in Slicer, where no target was chosen


def is_device(name: object) -> bool:
    """Whether this is how a device is called: auto, cpu, mps, cuda or cuda:<number>."""
    return isinstance(name, str) and re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is not None
