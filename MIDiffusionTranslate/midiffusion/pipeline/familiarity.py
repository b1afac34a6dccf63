"""Does a source look like anything the model can serve? A score from the shape of its slices.

A model is handed whatever a user has open: a knee, a head that lies on its side because a header is
wrong, a phantom. It then paints a head that is not there. This check compares the slices, as the
model is about to see them, with its training slices. It has to hold for every contrast, so it looks
at no intensities, only at

- the *outline*: what tissue encloses, as 16 radii about its centre, in units of the radius of the
  circle of the same area;
- the *structure* inside: local variation ln(1 + 2 var / h^2) / 2 over 3 x 3 pixels, h = 0.04 (for
  a normal law the information that LMI of the slice with itself approaches), averaged over 16
  sectors in 3 rings that follow the outline, its mean and spread over the slice taken out;
- the *size* of the outline in cm^2.

Outline and structure are a normal law of 64 numbers, known from the training slices and their
mirror images by its mean and its main axes. From the squared distance to it, per number, come two
judgements. *Unlike*: the typical slice is further off than training slices are. *Turned*: the
slices as a whole fit better when turned by a quarter or half turn. Both look at the better half of
the slices only (under whichever turn), since a volume may show neck and air that no model was
trained on.

Needs numpy alone. All numbers that depend on the training images are in the backbone's
`config.json`, by plane, from `training.familiarity_statistics`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidCard, UnlikelySource

if TYPE_CHECKING:
    from .case import Case

FEATURES = 64
TURNS = (0, 90, 180, 270)  # degrees, clockwise on the display
LEAST_AREA_CM2 = 40.0

_ANGLES, _RINGS = 16, (0.0, 0.45, 0.8, 1.0)
_RAYS, _STEPS, _REACH = 2, 48, 1.9  # rays per angle; samples of a ray, out to so many radii
_TISSUE = 0.15  # model units: above the noise of air, below soft tissue
_WIDTH = 0.04
_STRUCTURE_WEIGHT = 0.1  # of structure against outline
_MOST_SLICES = 48
_FEW = 5  # slices: fewer are judged as a single slice is
# By how much another turn has to fit better: together slices tell it surely, one of them does not.
_MARGIN, _MARGIN_FEW = 0.05, 0.3
_VERSION = 1
_UNLIKE = (
    "The slices of the source don't look like the model's training images: another part of the "
    "body, another plane than the header says, or no patient at all."
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shapes:
    """Slices described: outline and structure [N, 4, 16] (outline first, angles clockwise from the
    top of the display), and size [N] in cm^2."""

    described: Floats
    area_cm2: Floats

    def turned(self, degrees: int) -> Floats:
        """Features [N, FEATURES] of the slices after a clockwise turn."""
        return _as_features(np.roll(self.described, degrees // 90 * (_ANGLES // 4), axis=2))

    def mirrored(self) -> Floats:
        """Features [N, FEATURES] of the slices with left and right exchanged."""
        return _as_features(self.described[:, :, ::-1])


@dataclass(frozen=True)
class Judgement:
    """How familiar a source is.

    distance: of its typical slice, about 0.5 for training slices; NaN without a slice. turn: the
    one that would fit best, degrees clockwise. problem: a sentence for the user, or None.
    """

    distance: float
    turn: int
    problem: str | None


@dataclass(frozen=True, eq=False)
class Familiar:
    """What the training slices look like.

    mean: [FEATURES]. axes: [K, FEATURES], unit vectors; variances: [K] along them; rest: variance
    in every other direction. slice_limit, volume_limit: distances beyond which a single slice, and
    the typical slice of a volume, are not like the training's. area_cm2: smallest and largest size
    of a volume's large slices that is believed.
    """

    mean: Floats
    axes: Floats
    variances: Floats
    rest: float
    slice_limit: float
    volume_limit: float
    area_cm2: tuple[float, float]

    def distance(self, features: Floats) -> Floats:
        """Squared distance of features [N, FEATURES] to the training's law, per number: [N]."""
        away = features - self.mean
        along = away @ self.axes.T
        gained = 1.0 / self.rest - 1.0 / (self.variances + self.rest)
        squared: Floats = (away**2).sum(axis=1) / self.rest - (along**2 * gained).sum(axis=1)
        return squared / FEATURES

    def judge(self, slices: NDArray[np.floating], pixel_mm: float) -> Judgement:
        """slices [S, H, W]: the source on the model's grid, in [0, 1.25] with air at 0."""
        step = -(-len(slices) // _MOST_SLICES)
        shapes = describe_slices(slices[::step], pixel_mm)
        count = len(shapes.area_cm2)
        if count == 0:
            return Judgement(
                float("nan"), 0, "No slice of the source shows a body part of the size of a head."
            )
        distances = np.stack([self.distance(shapes.turned(turn)) for turn in TURNS])
        better = np.argsort(distances.min(axis=0), kind="stable")[: -(-count // 2)]
        by_turn = distances[:, better]
        typical, fit = np.median(by_turn, axis=1), by_turn.mean(axis=1)
        best = int(np.argmin(fit))
        few = count < _FEW
        limit = self.slice_limit if few else self.volume_limit
        problem = self._size_problem(shapes.area_cm2)
        if problem is None and fit[0] - fit[best] > (_MARGIN_FEW if few else _MARGIN):
            problem = (
                "The slices of the source would look more like the model's training images if they "
                f"were turned by {TURNS[best]} degrees: the orientation in its header may be wrong."
                if typical[best] <= limit
                else _UNLIKE
            )
        if problem is None and typical[0] > limit:
            problem = _UNLIKE
        return Judgement(float(typical[0]), TURNS[best], problem)

    def _size_problem(self, area_cm2: Floats) -> str | None:
        large, (low, high) = large_area(area_cm2), self.area_cm2
        if low <= large <= high:
            return None
        return (
            f"The source's large slices show {large:.0f} cm2 of tissue, where a head has {low:.0f} "
            f"to {high:.0f}: another part of the body, or a wrong voxel size."
        )

    def to_dict(self) -> dict[str, Any]:
        """For the card; numbers as text, a vector a line."""
        return {
            "version": _VERSION,
            "mean": _text(self.mean),
            "axes": [_text(axis) for axis in self.axes],
            "variances": _text(self.variances),
            "rest": float(f"{self.rest:.5g}"),
            "slice_limit": round(self.slice_limit, 3),
            "volume_limit": round(self.volume_limit, 3),
            "area_cm2": [round(area, 1) for area in self.area_cm2],
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Familiar:
        """What `to_dict` wrote. Raises InvalidCard."""
        try:
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']!r} is not {_VERSION}")
            low, high = (float(area) for area in stored["area_cm2"])
            found = cls(
                _numbers(stored["mean"]),
                np.stack([_numbers(axis) for axis in stored["axes"]]),
                _numbers(stored["variances"]),
                float(stored["rest"]),
                float(stored["slice_limit"]),
                float(stored["volume_limit"]),
                (low, high),
            )
            shapes = found.mean.shape, found.axes.shape, found.variances.shape
            count = len(found.axes)
            if shapes != ((FEATURES,), (count, FEATURES), (count,)):
                raise ValueError(f"arrays of the shapes {shapes}")
            if not (found.rest > 0 and (found.variances >= 0).all() and low < high):
                raise ValueError("a variance or a size that can't be")
        except (AttributeError, KeyError, TypeError, ValueError) as failure:
            raise InvalidCard(
                f"Field 'familiar' of the model card can't be used ({failure}): get the model "
                "again."
            ) from failure
        return found


def describe_slices(slices: NDArray[np.floating], pixel_mm: float) -> Shapes:
    """Those of the slices [S, H, W] (air 0, bright tissue about 1) that show enough tissue."""
    cm2 = pixel_mm * pixel_mm / 100.0
    slices = np.asarray(slices, dtype=np.float32)
    outline = _enclosed(_box_mean(slices > _TISSUE) > 0.5)
    area = outline.sum(axis=(1, 2)) * cm2
    kept = area >= LEAST_AREA_CM2
    slices, outline, area = slices[kept], outline[kept], area[kept]
    if not len(slices):
        return Shapes(np.zeros((0, len(_RINGS), _ANGLES)), area)
    radius = np.sqrt(area / cm2 / np.pi)
    inside, structure = _along_rays(outline, _structure(slices), radius)
    reach = inside.sum(axis=2) * (_REACH / _STEPS)  # [N, rays], in radii
    place = _sample_places() / np.maximum(reach, 1e-3)[..., None]  # share of the way to the outline
    described = [_by_angle(reach[..., None], np.ones_like(reach[..., None]))]
    for low, high in zip(_RINGS[:-1], _RINGS[1:], strict=True):
        within = inside & (place >= low) & ((place < high) | (high == 1.0))
        described.append(_by_angle(structure, within))
    return Shapes(np.stack(described, axis=1), area)


def large_area(area_cm2: Floats) -> float:
    """The size of a volume's large slices: their 90th percentile, cm^2."""
    return float(np.percentile(area_cm2, 90))


def _as_features(described: Floats) -> Floats:
    rings = described[:, 1:]
    rings = rings - rings.mean(axis=(1, 2), keepdims=True)
    rings = rings / (rings.std(axis=(1, 2), keepdims=True) + 0.05)
    parts = (described[:, 0], _STRUCTURE_WEIGHT * rings.reshape(len(rings), -1))
    return np.concatenate(parts, axis=1)


def _structure(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = _box_mean(slices)
    variance = np.maximum(_box_mean(slices * slices) - mean * mean, 0)
    found: NDArray[np.float32] = 0.5 * np.log1p(variance * np.float32(2 / _WIDTH**2))
    return found


def _box_mean(stack: NDArray[Any]) -> NDArray[np.float32]:
    """Mean over 3 x 3 pixels, air outside."""
    total = np.pad(np.asarray(stack, dtype=np.float32), ((0, 0), (1, 1), (1, 1)))
    total = total[:, :-2] + total[:, 1:-1] + total[:, 2:]
    total = total[:, :, :-2] + total[:, :, 1:-1] + total[:, :, 2:]
    return total / np.float32(9)


def _enclosed(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What has tissue on either side in its row and in its column."""

    def between(axis: int) -> NDArray[np.bool_]:
        before = np.logical_or.accumulate(tissue, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
        both: NDArray[np.bool_] = before & after
        return both

    return between(1) & between(2)


def _sample_places() -> Floats:
    """Of the samples of a ray, in radii from the centre."""
    return (np.arange(_STEPS, dtype=np.float64) + 0.5) * (_REACH / _STEPS)


def _along_rays(
    outline: NDArray[np.bool_], structure: NDArray[np.float32], radius: Floats
) -> tuple[NDArray[np.bool_], Floats]:
    """Both on rays from the outline's centre, [N, rays, steps]; nothing beyond the slices."""
    count, height, width = outline.shape
    pixels = outline.sum(axis=(1, 2))
    rows = (outline.sum(axis=2) @ np.arange(height)) / pixels
    columns = (outline.sum(axis=1) @ np.arange(width)) / pixels
    angle = (np.arange(_ANGLES * _RAYS) + 0.5) * (2 * np.pi / (_ANGLES * _RAYS))
    away = radius[:, None, None] * _sample_places()
    row = np.rint(rows[:, None, None] - away * np.cos(angle)[:, None]).astype(int)
    column = np.rint(columns[:, None, None] + away * np.sin(angle)[:, None]).astype(int)
    there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = (
        np.arange(count)[:, None, None],
        row.clip(0, height - 1),
        column.clip(0, width - 1),
    )
    return outline[place] & there, structure[place].astype(np.float64)


def _by_angle(values: Floats, weights: NDArray[Any]) -> Floats:
    """Mean over the rays of each angle and their samples: [N, angles]; 0 without a sample."""
    shape = (len(values), _ANGLES, -1)
    total = (values * weights).reshape(shape).sum(axis=2)
    found: Floats = total / np.maximum(weights.reshape(shape).sum(axis=2), 1)
    return found


def _text(numbers: Floats) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)


def _numbers(text: str) -> Floats:
    found = np.array([float(word) for word in text.split()])
    if not np.isfinite(found).all():
        raise ValueError("numbers that are not finite")
    return found


@dataclass(frozen=True)
class Familiarity:
    """Step `familiarity`: warn where the source does not look like a head in its plane."""

    name: ClassVar[str] = "familiarity"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return case.stacks is not None and case.stacks[0].plane in case.model.familiar

    def run(self, case: Case) -> dict[str, Any]:
        assert case.stacks is not None
        stack = case.stacks[0]
        law = case.model.familiar[stack.plane]
        judged = law.judge(stack.slices[:, 0].cpu().numpy(), case.pixel_mm)
        if judged.problem is not None:
            case.warning = " ".join(filter(None, [case.warning, judged.problem]))
            warnings.warn(judged.problem, UnlikelySource, stacklevel=2)
        distance = None if np.isnan(judged.distance) else round(judged.distance, 3)
        return {"plane": stack.plane, "distance": distance}
