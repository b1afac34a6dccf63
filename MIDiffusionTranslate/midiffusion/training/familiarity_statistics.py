"""Statistics of head slices for the check of sources (`pipeline.familiarity`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import InvalidData
from ..pipeline.familiarity import FEATURES, Familiar, Floats, Shapes, describe_slices, large_area
from .label_planes import LabelMap, PlaneSettings, draw_planes
from .synthetic_heads import SyntheticHeads
from .tissues import TissueTable

_AXES = 12
_NOISE = 0.1  # of the mean variance: what the axes of few slices can't be trusted with
_FOLDS = 5
# Brains without their skull have half of the area of a head, and their outline lies further off;
# headers and the training's pixel size err.
_AREA_BELOW, _AREA_ABOVE = 0.45, 1.5
_VOLUME_ABOVE = 2.0
_PLANES = ("axial", "coronal", "sagittal")
_PLANES_OF_A_HEAD = 24  # in each orientation


def of_synthetic_heads(
    maps: list[LabelMap], tissues: TissueTable, geometry: PlaneSettings, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Statistics of whole synthetic heads of any contrast, by plane: `Familiar.to_dict`."""
    g = torch.Generator().manual_seed(seed)
    heads = SyntheticHeads(stripped=0, cut=0)
    found = {}
    for across, plane in enumerate(_PLANES):
        settings = replace(geometry, across=(across,), rotation_deg=8.0, tilt_deg=8.0)
        images, subjects = [], []
        for number, head in enumerate(maps):
            planes = draw_planes([head], tissues, _PLANES_OF_A_HEAD, g, settings)
            images.append(heads.draw(planes, tissues, g)[0][:, 0].numpy())
            subjects += [str(number)] * _PLANES_OF_A_HEAD
        found[plane] = learn(np.concatenate(images), subjects, geometry.pixel_mm).to_dict()
    return found


def learn(images: np.ndarray, subjects: Sequence[str], pixel_mm: float) -> Familiar:
    """The law of outline and structure in slices of heads, and its limits.

    Args:
        images: [N, H, W], model units, all in one plane.
        subjects: of each slice.
        pixel_mm: pixel size.

    Limits of the distance are those of subjects that the law has not seen, by turns: a single
    slice, the 99th percentile; a volume, twice the largest typical slice of a subject.
    Raises InvalidData if too few slices show a head.
    """
    of_slice = np.array(subjects)
    names = np.unique(of_slice)
    by_subject = [describe_slices(images[of_slice == name], pixel_mm) for name in names]
    by_subject = [shapes for shapes in by_subject if len(shapes.area_cm2)]
    if len(by_subject) < 2:
        raise InvalidData("Fewer than two training subjects show anything as large as a head.")
    folds = np.arange(len(by_subject)) % min(_FOLDS, len(by_subject))
    unseen: list[Floats] = []
    for fold in np.unique(folds):
        law = _law([s for s, f in zip(by_subject, folds, strict=True) if f != fold])
        unseen += [
            law.distance(s.turned(0)) for s, f in zip(by_subject, folds, strict=True) if f == fold
        ]
    large = [large_area(shapes.area_cm2) for shapes in by_subject]
    return replace(
        _law(by_subject),
        slice_limit=float(np.percentile(np.concatenate(unseen), 99)),
        volume_limit=_VOLUME_ABOVE * max(float(np.median(found)) for found in unseen),
        area_cm2=(_AREA_BELOW * min(large), _AREA_ABOVE * max(large)),
    )


def _law(by_subject: Sequence[Shapes]) -> Familiar:
    """Mean and main axes, without limits."""
    features = np.concatenate(
        [half for shapes in by_subject for half in (shapes.turned(0), shapes.mirrored())]
    )
    mean = features.mean(axis=0)
    covariance = np.cov(features.T)
    variances, axes = np.linalg.eigh(covariance)  # ascending
    rest = float(variances[:-_AXES].mean() + _NOISE * np.trace(covariance) / FEATURES)
    if not rest > 0:
        raise InvalidData("The training slices are all alike.")
    return Familiar(
        mean,
        axes.T[: -_AXES - 1 : -1],
        np.maximum(variances[: -_AXES - 1 : -1], 0),
        rest,
        slice_limit=np.inf,
        volume_limit=np.inf,
        area_cm2=(0.0, np.inf),
    )
