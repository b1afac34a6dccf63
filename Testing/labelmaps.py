"""A small whole-head label map: an ellipsoid of layers from skin to ventricle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from midiffusion.training.tissues import TissueTable

# Outer radius of each layer as a share of the head, from the skin inwards.
LAYERS = (
    (1.00, "skin"),
    (0.97, "muscle"),
    (0.88, "cortical bone"),
    (0.84, "cerebrospinal fluid"),
    (0.80, "cerebral cortex"),
    (0.70, "cerebral white matter"),
    (0.20, "cerebrospinal fluid"),
)


def labels(shape: tuple[int, int, int] = (60, 76, 64)) -> np.ndarray:
    """Codes of the shipped tissue table, uint8 [k, j, i]."""
    tissues = TissueTable.read()
    k, j, i = np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in shape), indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2)
    found = np.zeros(shape, np.uint8)
    for size, name in LAYERS:
        found[radius < size] = tissues.code(name)
    below = (k < -0.35) & np.isin(found, tissues.codes("cerebral white matter").numpy())
    found[below] = tissues.code("cerebellum cortex")
    return found


def saveLabelMap(path: Path, codes: np.ndarray | None = None, spacing: float = 2.4) -> Path:
    """Writes a label map (NIfTI) with RAS axes and returns the path."""
    image = sitk.GetImageFromArray(labels() if codes is None else codes)
    image.SetSpacing((spacing,) * 3)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # ITK's axes point to L, P, S
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path
