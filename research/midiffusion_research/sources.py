"""`midiffusion-research sources`: which sources does a model warn of, and should it have?

*Heads* as they should be, which must raise no warning: validation subjects of the collections below
the data folder (TCGA-LGG, every contrast; SynthRAD, axial slices of CT and MR), and every volume in
a folder of volumes there. *Others* are made from them, the header saying nothing of it: turned in
plane by 90 and 180 degrees; coronal and sagittal slices in place of the axial ones; voxels twice
and half as large; one quarter cut out; and, besides, phantoms: noise, a box, ellipsoids of a head,
of a knee and of an abdomen. Nothing is translated: the check sees what it sees before a
translation. The intervals of the rates are Wilson's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from midiffusion import __version__
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.grid import SliceGrid
from midiffusion.images.io import read_volume
from midiffusion.images.volume import Volume
from midiffusion.pipeline.familiarity import Judgement
from midiffusion.pipeline.target import TargetModel, load_model

from .bootstrap import Interval
from .datasets import dataset
from .datasets.collections import (
    SYNTHRAD_PIXEL_MM,
    frozen_split,
    holds_volumes,
    read_sprite,
)
from .datasets.sprites import radiological
from .datasets.subject import as_acquired
from .options import add_json, add_model, command
from .report import estimate_text, markdown_table, say, write_json

HEADS = ("TCGA-LGG", "SynthRAD axial slice", "volume")
_SPRITE_PIXELS, _SPRITE_PARTS = 192, 3
_QUARTER_TURN = 90


def judge(volume: Volume, model: TargetModel) -> Judgement:
    """The check of the step `familiarity`, after the steps before it.

    Raises InvalidParameter for a model without what the check needs.
    """
    if not model.familiar:
        raise InvalidParameter(
            f"The backbone of '{model.card.id}' has no statistics of its training slices: run "
            "python -m midiffusion.training.familiarity_statistics first."
        )
    import torch  # not at the top: the arguments are read without
    from midiffusion.pipeline.case import Case
    from midiffusion.pipeline.options import TranslationOptions
    from midiffusion.pipeline.scale import Scale
    from midiffusion.pipeline.slice import Slice
    from midiffusion.runtime.progress import Reporter

    device = torch.device("cpu")
    case = Case(volume, model, TranslationOptions(), device, Reporter(device, None))
    for step in (Scale(), Slice()):
        step.run(case)
    assert case.stacks is not None  # made by `slice`
    stack = case.stacks[0]
    if stack.plane not in model.familiar:  # the step does not apply
        return Judgement(float("nan"), 0, None)
    return model.familiar[stack.plane].judge(stack.slices[:, 0].numpy(), case.pixel_mm)


def wilson(found: int, of: int) -> Interval:
    """The share found / of with Wilson's 95 % interval (J Am Stat Assoc 1927;22:209)."""
    z2, share = 1.96**2, found / of
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = np.sqrt(z2 * (share * (1 - share) / of + z2 / (4 * of * of))) / (1 + z2 / of)
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def turned(volume: Volume, degrees: int) -> Volume:
    """Its in-plane samples turned, under a header that does not know; the voxels stay as large."""
    data = np.rot90(volume.data, degrees // _QUARTER_TURN, axes=(1, 2))
    return _stack(data, (*_in_plane(volume, degrees), volume.spacing_mm[2]))


def from_plane(volume: Volume, plane: str) -> Volume:
    """The coronal or sagittal slices of axial ones, superior up, as if they were axial."""
    upright = np.flip(volume.data, 0)  # slices run from inferior to superior
    x, y, z = volume.spacing_mm
    if plane == "coronal":
        return _stack(upright.transpose(1, 0, 2), (x, z, y))
    return _stack(upright.transpose(2, 0, 1), (y, z, x))


def scaled(volume: Volume, factor: float) -> Volume:
    """The same samples with voxels so many times as large."""
    return Volume(volume.data, volume.ijkToRAS @ np.diag([factor] * 3 + [1.0]), volume.modality)


def quarter(volume: Volume) -> Volume:
    """The middle half of its rows and columns."""
    _, rows, columns = volume.data.shape
    inside = volume.data[:, rows // 4 : -(rows // 4), columns // 4 : -(columns // 4)]
    return Volume(inside, volume.ijkToRAS, volume.modality)


def phantoms(seed: int = 0) -> dict[str, Volume]:
    """What was never a patient: 24 slices of 128 x 128 pixels of 2 mm, grainy."""
    random = np.random.default_rng(seed)
    shape = (24, 128, 128)
    z, y, x = (np.indices(shape).T - np.array([11.5, 63.5, 63.5])).T * np.array(
        [5.0, 2.0, 2.0]
    ).reshape(3, 1, 1, 1)
    grain = 0.5 + 0.05 * random.standard_normal(shape)

    def ellipsoid(half_y: float, half_x: float) -> np.ndarray:
        return grain * ((y / half_y) ** 2 + (x / half_x) ** 2 + (z / 80) ** 2 < 1)

    made = {
        "noise": random.random(shape),
        "box": grain * ((abs(y) < 95) & (abs(x) < 75)),
        "ellipsoid, head": ellipsoid(95, 75),
        "ellipsoid, knee": ellipsoid(60, 60),
        "ellipsoid, abdomen": ellipsoid(100, 125),
    }
    return {name: _stack(data, (2.0, 2.0, 5.0)) for name, data in made.items()}


def heads(root: Path) -> Iterator[tuple[str, str, Volume]]:
    """(one of `HEADS`, name, source as a user would load it), axial slices first to last from
    inferior to superior, radiological: whatever the files' axes."""
    for kind, name, directions in (
        (HEADS[0], "tcga-lgg", ("t1:flair", "flair:t1")),
        (HEADS[1], "synthrad2023-brain", ("mr:ct", "ct:mr")),
    ):
        if (root / name.replace("-", "_")).is_dir():
            for direction in directions:
                for subject in dataset(name).load(root, direction, "val"):
                    source = as_acquired(subject.source)
                    yield kind, f"{subject.id} {source.modality}", source
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if holds_volumes(folder):
            for file in sorted(folder.iterdir()):
                yield HEADS[2], file.name, _axial(read_volume(file))


def _axial(volume: Volume) -> Volume:
    """The volume's samples in the order of the model's display, axial, under a plain header."""
    grid = SliceGrid.of(volume, min(volume.spacing_mm), "axial", 1)
    data = np.flip(np.transpose(volume.data, grid.order), grid.flipped)
    z, y, x = (volume.spacing_mm[::-1][axis] for axis in grid.order)
    return _stack(data, (x, y, z))


def plane_sprites(root: Path, plane: str) -> Iterator[tuple[str, Volume]]:
    """SynthRAD's middle slices of another plane, of validation subjects, as if they were axial."""
    import json

    folder = root / "synthrad2023_brain"
    if not folder.is_dir():
        return
    ids = json.loads((folder / f"{plane}_ids.json").read_text())
    rows = np.concatenate(
        [read_sprite(folder / f"{plane}_{n}.webp", _SPRITE_PIXELS) for n in range(_SPRITE_PARTS)]
    )
    wanted = set(frozen_split("synthrad2023_brain")[1])
    for subject, row in zip(ids, rows, strict=True):
        if subject in wanted:
            for channel, modality in ((0, "CT"), (1, "MR")):
                units = row[None, ..., channel] / np.float32(255)
                yield (
                    f"{subject} {modality}",
                    as_acquired(Volume(units, radiological(SYNTHRAD_PIXEL_MM), modality)),
                )


def cases(root: Path) -> Iterator[tuple[str, str, Volume]]:
    """(kind, name, source) of all that is judged; the kinds of `HEADS` are the heads."""
    for kind, name, volume in heads(root):
        yield kind, name, volume
        for degrees in (_QUARTER_TURN, 2 * _QUARTER_TURN):
            yield f"{kind}, turned by {degrees} degrees", name, turned(volume, degrees)
        if kind == HEADS[2]:
            for plane in ("coronal", "sagittal"):
                yield f"{kind}, {plane} slices", name, from_plane(volume, plane)
        for factor in (0.5, 2.0):
            yield f"voxels {factor:g} times as large", name, scaled(volume, factor)
        yield "quarter of a head", name, quarter(volume)
    for plane in ("coronal", "sagittal"):
        for name, volume in plane_sprites(root, plane):
            yield f"SynthRAD {plane} slice", name, volume
    for name, volume in phantoms().items():
        yield f"phantom: {name}", "", volume


def _in_plane(volume: Volume, degrees: int) -> tuple[float, float]:
    x, y, _ = volume.spacing_mm
    return (y, x) if degrees % (2 * _QUARTER_TURN) else (x, y)


def _stack(data: np.ndarray, spacing_mm: Sequence[float]) -> Volume:
    x, y, z = spacing_mm
    return Volume(np.ascontiguousarray(data), np.diag([-x, -y, z, 1.0]))


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises MIDiffusionError for what can't be done."""
    options = _parser().parse_args(argv)
    if not options.data.is_dir():
        raise InvalidData(f"The data folder {options.data} does not exist.")
    model = load_model(options.model, options.model_folder)
    found: dict[str, list[tuple[str, Judgement]]] = {}
    for number, (kind, name, volume) in enumerate(cases(options.data), start=1):
        found.setdefault(kind, []).append((name, judge(volume, model)))
        say(f"{number} sources", last=False)
    if not any(kind in found for kind in HEADS):
        raise InvalidData(f"{options.data} holds no collection and no folder of volumes.")
    say(f"{sum(map(len, found.values()))} sources", last=True)
    rates = {
        kind: wilson(sum(judged.problem is not None for _, judged in results), len(results))
        for kind, results in found.items()
    }
    heads_found = [result for kind in HEADS for result in found.get(kind, [])]
    alarms = sum(judged.problem is not None for _, judged in heads_found)
    rates["all heads"] = wilson(alarms, len(heads_found))
    counts = {kind: len(results) for kind, results in found.items()}
    rows = [
        [kind, str(counts.get(kind, len(heads_found))), estimate_text(rate, 2)]
        for kind, rate in sorted(rates.items(), key=lambda item: _place(item[0], list(found)))
    ]
    print(markdown_table(["Source", "number", "share warned of"], rows))
    if options.json is not None:
        write_json(
            options.json,
            {
                "version": __version__,
                "model": model.card.id,
                "rates": {kind: asdict(rate) for kind, rate in rates.items()},
                "sources": {
                    kind: [{"name": name, **asdict(judged)} for name, judged in results]
                    for kind, results in found.items()
                },
            },
        )
    return 0


def _place(kind: str, order: list[str]) -> tuple[int, int]:
    """Heads first, then all of them, then the others as they came."""
    if kind in HEADS:
        return 0, HEADS.index(kind)
    return (1, 0) if kind not in order else (2, order.index(kind))


def _parser() -> Arguments:
    parser = command("sources", "How often a model warns of heads, and of what is none.", add_json)
    add_model(parser, "flair")
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of the collections and of folders of volumes",
    )
    return parser
