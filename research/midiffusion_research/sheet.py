"""The picture sheet of a table: the same slices of source, every method and target in a row."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from midiffusion.errors import DependencyMissing, UnwritableTarget
from numpy.typing import NDArray

from .datasets.subject import Subject
from .scorer import scored_slices

if TYPE_CHECKING:
    from PIL import Image

_MOST_ROWS = 6
_SIDE, _GAP, _LINE = 160, 4, 13
_LETTERS = 25  # of the built-in font in the width of a picture
_PAPER, _INK = 255, 0


@dataclass(frozen=True)
class Column:
    """One method: its label, its outputs [S, H, W] by subject, and a line of text below each."""

    label: str
    outputs: Mapping[str, NDArray[np.floating]]
    captions: Mapping[str, str]


def shown(subjects: Sequence[Subject]) -> list[tuple[Subject, int]]:
    """Up to six subjects, evenly spread, each with the number of one slice: that with most of the
    tumour where the collection marks one, else the middle one of those that are scored."""
    count = min(_MOST_ROWS, len(subjects))
    chosen = [subjects[round(n)] for n in np.linspace(0, len(subjects) - 1, count)]
    return [(subject, _slice(subject)) for subject in chosen]


def _slice(subject: Subject) -> int:
    if subject.tumour is not None and subject.tumour.any():
        return int(subject.tumour.sum(axis=(1, 2)).argmax())
    kept = scored_slices(subject)
    return int(kept[len(kept) // 2]) if kept.size else len(subject.target) // 2


def check_pillow() -> None:
    """Raises DependencyMissing where sheets can't be made: before hours of work, not after."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise DependencyMissing(
            "The picture sheet needs Pillow; install it with `pip install ./research`."
        ) from None


def write_sheet(
    path: Path, rows: Sequence[tuple[Subject, int]], columns: Sequence[Column], title: str
) -> None:
    """Writes the sheet as PNG, whole or not at all; raises UnwritableTarget.

    Values from 0 to 1 are shown from black to white, none is stretched.
    """
    from PIL import Image, ImageDraw

    labels = ["source", *(column.label for column in columns), "target"]
    heads = [textwrap.wrap(label, _LETTERS) for label in labels]
    top = _LINE * (2 + max(len(head) for head in heads))
    step = _SIDE + _GAP
    below = 2 * _LINE
    size = (_GAP + step * len(labels), top + (_SIDE + below) * len(rows))
    sheet = Image.new("L", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 0), title, fill=_INK)
    for n, head in enumerate(heads):
        draw.multiline_text((_GAP + n * step, int(1.5 * _LINE)), "\n".join(head), fill=_INK)
    for row, (subject, number) in enumerate(rows):
        y = top + row * (_SIDE + below)
        pictures = [subject.source.data[number]]
        pictures += [column.outputs[subject.id][number] for column in columns]
        pictures.append(subject.target[number])
        captions = [f"{subject.id[:_LETTERS]}"]
        captions += [column.captions.get(subject.id, "") for column in columns]
        captions.append(f"slice {number + 1} of {len(subject.target)}")
        for n, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            sheet.paste(_grey(picture), (_GAP + n * step, y))
            draw.text((_GAP + n * step, y + _SIDE), caption, fill=_INK)
    part = path.with_name(path.name + ".part")
    try:
        sheet.save(part, format="PNG")
        part.replace(path)
    except OSError as error:
        raise UnwritableTarget(f"{path} can't be written: {error}") from error


def _grey(picture: NDArray[Any]) -> Image.Image:
    from PIL import Image

    values = np.clip(np.nan_to_num(np.asarray(picture, dtype=np.float64)), 0, 1)
    image = Image.fromarray((255 * values).round().astype(np.uint8))
    scale = _SIDE / max(image.size)
    fitted = image.resize((round(image.width * scale), round(image.height * scale)))
    square = Image.new("L", (_SIDE, _SIDE), 0)
    square.paste(fitted, ((_SIDE - fitted.width) // 2, (_SIDE - fitted.height) // 2))
    return square
