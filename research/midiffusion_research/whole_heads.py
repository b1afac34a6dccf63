"""Fidelity of a translation on whole heads, each on its own grid.

Protocol: the result gets one gain inside the head (least squares), the reference one robust scale
(99.5th percentile inside its head = 1). Brain correlation is Pearson's r deeper than 20 mm below
the surface of the head (4 mm for a brain without its skull).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from midiffusion.images.volume import Volume
from scipy import ndimage, stats

from .metrics import ssim_map

BRAIN_MM, EXTRACTED_MM = 20.0, 4.0


@dataclass(frozen=True)
class Pair:
    """One source and the real target of the same person on the same grid."""

    subject: str
    source: str
    target: str
    source_file: Path
    target_file: Path
    extracted: bool = False


@dataclass(frozen=True)
class Figures:
    """Figures of one translation.

    brain_r: Pearson's r in the brain. ssim, mae: inside the head, after one gain; mae in units of
    the reference's 99.5th percentile. error_rank_head, error_rank_brain: Spearman's correlation of
    the error map with the real error, averaged over 3 x 3 voxels.
    """

    subject: str
    source: str
    target: str
    brain_r: float
    ssim: float
    mae: float
    error_rank_head: float | None
    error_rank_brain: float | None


def pairs(data: Path) -> Iterator[Pair]:
    """All pairs of openms_wholehead, and of the brain-extracted volumes/openms07."""
    for folder, extracted in (("openms_wholehead", False), ("volumes", True)):
        pattern = "openms07_*.nii.gz" if extracted else "p*_*.nii.gz"
        found: dict[str, dict[str, Path]] = {}
        for path in sorted((data / folder).glob(pattern)):
            subject, contrast = path.name.removesuffix(".nii.gz").split("_")
            found.setdefault(subject, {})[contrast.lower()] = path
        for subject, files in found.items():
            for source, source_file in files.items():
                for target, target_file in files.items():
                    if source != target:
                        yield Pair(subject, source, target, source_file, target_file, extracted)


def head_and_brain(
    reference: np.ndarray, volume: Volume, extracted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Masks [k, j, i] of the head, and of what lies deep in it; a cut edge counts as surface."""
    bright = np.percentile(reference[reference > reference.mean()], 99.5)
    spacing = volume.spacing_mm[::-1]
    across = int(np.argmax(spacing))
    moved = np.moveaxis(reference > 0.05 * bright, across, 0)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in moved])
    head = np.moveaxis(filled, 0, across)
    depth = ndimage.distance_transform_edt(np.pad(head, 1), spacing)[1:-1, 1:-1, 1:-1]
    brain = depth > (EXTRACTED_MM if extracted else BRAIN_MM)
    return head, brain & (reference > 0)


def figures(
    pair: Pair, result: np.ndarray, error_map: np.ndarray | None, reference: Volume
) -> Figures:
    """See `Figures`; result and error_map [k, j, i] on the reference's grid, any scale."""
    real = reference.data.astype(np.float32)
    head, brain = head_and_brain(real, reference, pair.extracted)
    real = real / np.percentile(real[head], 99.5)
    gain = float((result[head] * real[head]).sum() / max((result[head] ** 2).sum(), 1e-6))
    made = result * gain
    error = np.abs(made - real)
    across = int(np.argmax(reference.spacing_mm[::-1]))
    planes = [np.moveaxis(x, across, 0) for x in (made, real, head.astype(np.float32))]
    similarity = [ssim_map(a, b)[m > 0] for a, b, m in zip(*planes, strict=True)]
    ranks: list[float | None] = [None, None]
    if error_map is not None:
        size = [1 if axis == across else 3 for axis in range(3)]
        smooth = ndimage.uniform_filter(error, size)
        for index, mask in enumerate((head, brain)):
            chosen = np.flatnonzero(mask)[::7]
            ranks[index] = float(
                stats.spearmanr(error_map.ravel()[chosen], smooth.ravel()[chosen])[0]
            )
    return Figures(
        pair.subject,
        pair.source,
        pair.target,
        round(float(np.corrcoef(result[brain], real[brain])[0, 1]), 4),
        round(float(np.concatenate(similarity).mean()), 4),
        round(float(error[head].mean()), 4),
        *(None if rank is None else round(rank, 3) for rank in ranks),
    )
