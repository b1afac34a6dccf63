"""The fidelity protocol: a method's output for one subject in, figures out.

Intensities are compared as they come, in model units (255 of the stored 8 bit, 1000 of a
translated file, 3060 HU are one unit), clipped to [0, 1] like the stored target; no output is ever
rescaled by its own range. Image figures are computed slice by slice and averaged over the subject's
slices, those in which the head covers less than 1 % of the picture being left out. `head` figures
average over the head mask (SSIM: its map), `full` figures over the slice (SSIM: where the window
fits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from midiffusion.errors import InvalidData
from numpy.typing import NDArray

from . import metrics
from .bootstrap import Interval, interval, statistic_interval
from .datasets.subject import HU_PER_UNIT, Subject, area_average
from .lesions import lesion_figures

_LEAST_HEAD = 0.01
_EIGHT_BIT = 255.0

SubjectFigures = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """One column of the table: its key, a heading, decimals."""

    key: str
    heading: str
    decimals: int


FIGURES = (
    Figure("ssim", "SSIM head", 3),
    Figure("psnr", "PSNR head (dB)", 2),
    Figure("mae", "MAE head", 4),
    Figure("mae_hu", "MAE head (HU)", 0),
    Figure("psnr_gain", "PSNR head, one gain (dB)", 2),
    Figure("ssim_full", "SSIM full", 3),
    Figure("psnr_full", "PSNR full (dB)", 2),
    Figure("mse_8bit", "MSE full (8 bit)", 0),
    Figure("mi", "MI head (nats)", 3),
    Figure("nmi", "NMI full", 3),
    Figure("gradient_distance", "Gradient distance head", 4),
    Figure("ssim_source", "SSIM to source, head", 3),
    Figure("ssim_source_full", "SSIM to source, full", 3),
    Figure("flicker", "Flicker", 2),
    Figure("flicker_gain", "Flicker, one gain", 2),
    Figure("texture", "Texture along slices", 2),
    Figure("texture_real", "Texture along slices, real", 2),
    Figure("lesion_contrast", "Lesion contrast", 3),
    Figure("lesion_contrast_real", "Lesion contrast, real", 3),
    Figure("lesion_mae", "Lesion MAE", 3),
    Figure("false_hyperintense", "False hyperintensity", 4),
)


def score_subject(
    output: NDArray[np.floating], subject: Subject, size: int | None, modality: str
) -> SubjectFigures:
    """Figures of one subject by the keys of `FIGURES`; those that make no sense are absent.

    output: [S, H, W] in model units on the subject's grid. size: pixels to which output and subject
    are averaged down first; None scores the grid as it is. modality: the target's ("CT" adds HU;
    "FLAIR" adds lesions where there are masks).
    Raises InvalidData for an output of another shape or with values that are not finite.
    """
    if output.shape != subject.target.shape:
        raise InvalidData(
            f"The output for {subject.id} has the shape {output.shape} where "
            f"{subject.target.shape} is needed."
        )
    if not np.isfinite(output).all():
        raise InvalidData(f"The output for {subject.id} holds values that are not finite.")
    output = np.clip(np.asarray(output, dtype=np.float64), 0.0, 1.0)
    if size is not None:
        output, subject = area_average(output, size).astype(np.float64), subject.at(size)
    target = np.clip(subject.target.astype(np.float64), 0.0, 1.0)
    source = np.clip(np.asarray(subject.source.data, dtype=np.float64), 0.0, 1.0)
    head = subject.head
    kept = scored_slices(subject)
    if not kept.size:
        raise InvalidData(f"No slice of {subject.id} shows enough of the head to be scored.")
    gain = metrics.best_gain(output[head], target[head])
    rows = [_slice_figures(output[s], target[s], source[s], head[s], gain) for s in kept]
    figures = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    if modality == "CT":
        figures["mae_hu"] = figures["mae"] * HU_PER_UNIT
    if subject.contiguous:
        figures["flicker"] = metrics.flicker(output, target, head)
        figures["flicker_gain"] = metrics.flicker(gain * output, target, head)
        figures["texture"] = metrics.texture_continuity(output, head)
        figures["texture_real"] = metrics.texture_continuity(target, head)
    if modality == "FLAIR" and subject.tumour is not None:
        figures |= lesion_figures(output, target, head, subject.tumour)
    return figures


def scored_slices(subject: Subject) -> NDArray[np.intp]:
    """Numbers of the slices that show enough of the head to count."""
    return np.flatnonzero(subject.head.mean(axis=(1, 2)) >= _LEAST_HEAD)


def _slice_figures(
    output: metrics.Array,
    target: metrics.Array,
    source: metrics.Array,
    head: metrics.Mask,
    gain: float,
) -> SubjectFigures:
    similarity = metrics.ssim_map(output, target)
    to_source = metrics.ssim_map(output, source)
    full_mse = metrics.mean_squared_error(output, target)
    return {
        "ssim": float(similarity[head].mean()),
        "ssim_full": float(metrics.interior(similarity).mean()),
        "ssim_source": float(to_source[head].mean()),
        "ssim_source_full": float(metrics.interior(to_source).mean()),
        "psnr": metrics.psnr(metrics.mean_squared_error(output, target, head)),
        "psnr_full": metrics.psnr(full_mse),
        "psnr_gain": metrics.psnr(metrics.mean_squared_error(gain * output, target, head)),
        "mae": metrics.mean_absolute_error(output, target, head),
        "mse_8bit": full_mse * _EIGHT_BIT**2,
        "mi": metrics.mutual_information(output[head], target[head]),
        "gradient_distance": metrics.gradient_distance(output, target, head),
        "nmi": metrics.normalised_mutual_information(output, target),
    }


def summary(figures: Mapping[str, SubjectFigures], *, seed: int = 0) -> dict[str, Interval]:
    """Mean over subjects with its bootstrap interval, for each figure that some subject has."""
    keys = [f.key for f in FIGURES if any(f.key in values for values in figures.values())]
    return {
        key: interval([v.get(key, float("nan")) for v in figures.values()], seed=seed)
        for key in keys
    }


def gap_closed(
    ours: Mapping[str, SubjectFigures],
    lower: Mapping[str, SubjectFigures],
    upper: Mapping[str, SubjectFigures],
    key: str = "ssim",
    *,
    seed: int = 0,
) -> Interval:
    """Share of the gap closed, (ours - lower) / (upper - lower), of means over the same subjects.

    The protocol's headline, with histogram matching as `lower` and the paired regressor as `upper`.
    The three are resampled together. NaN where the gap is not positive.
    """
    subjects = list(ours)
    columns = [_column(method, subjects, key) for method in (ours, lower, upper)]

    def share(rows: NDArray[np.intp]) -> float:
        a, b, c = (float(column[rows].mean()) for column in columns)
        return (a - b) / (c - b) if c > b else float("nan")

    return statistic_interval(share, len(subjects), seed=seed)


def _column(
    figures: Mapping[str, SubjectFigures], subjects: Sequence[str], key: str
) -> NDArray[np.float64]:
    return np.array([figures[subject][key] for subject in subjects])
