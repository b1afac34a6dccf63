"""Writes docs/models/<id>.md from the cards of the shipped models, and the pictures on request.

    midiffusion-research model-cards               (or: make model-cards)
    midiffusion-research model-cards --pictures    (translates the openms heads: minutes)

Nothing in the documents is written by hand; a test compares them with the cards. The pictures show
CC BY volumes alone (openms), for the patients of the other collections must not be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from midiffusion.arguments import Arguments
from midiffusion.errors import InvalidCard
from midiffusion.models import registry
from midiffusion.models.card import ModelCard

from .report import markdown_table

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ROOT / "docs/models"
DATA = ROOT / "Resources/SampleData"
T1, FLAIR = DATA / "openms_long19_T1W.nii.gz", DATA / "openms_long19_FLAIR.nii.gz"
# Of each model: source, and the real image where there is one.
SHOWN = {
    "flair": (T1, FLAIR),
    "t1": (FLAIR, T1),
    "t2": (T1, None),
    "pd": (T1, None),
    "ct": (T1, None),
}

_NAMES = {
    "brain_r": "Brain correlation",
    "ssim": "SSIM in the head",
    "ssim_64": "SSIM in the head, 64 x 64",
    "mae": "MAE in the head",
    "brain_mae_hu": "MAE of the brain (HU)",
    "bone_dice": "Dice of bone above 300 HU",
    "error_rank_head": "Rank correlation of expected and real error",
    "pairs": "Pairs",
}


def document(card: ModelCard) -> str:
    """The card in words."""
    training = card.training
    trained = [
        f"**Data**: {training['data']}.",
        f"**Licence of the data**: {training['licence']}. **Of the weights**: "
        f"{card.weights_licence}{', non-commercial use only' if card.non_commercial else ''}.",
    ]
    if "note" in training:
        trained.append(f"**Note**: {training['note']}")
    size = card.weights_bytes / 1e6
    parts = [
        f"# {card.title} (`{card.id}`)",
        "*Written by `make model-cards` from the model's card; not to be edited by hand.*",
        f"{card.intended_use}",
        f"**Anatomy**: {card.anatomy}. **Field of view**: {card.field_of_view}; "
        f"{card.pixel_mm:.2f} mm a pixel. **Weights**: {size:.1f} MB, beside the shared backbone.",
        *trained,
        "## Limits and failures\n\n" + "\n".join(f"- {limit}" for limit in card.limits),
        "## Validation\n\n" + _validation(card.validation),
    ]
    if card.seconds_per_slice:
        rows = [[device, f"{s:.2f}"] for device, s in card.seconds_per_slice.items()]
        table = markdown_table(["Device", "Seconds a slice"], rows)
        parts.append(f"## Time\n\nWith the default options:\n\n{table}")
    if (DOCUMENTS / f"{card.id}.png").is_file():
        parts.append(
            f"## Picture\n\n![{_caption(card.id)}]({card.id}.png)\n\n*{_caption(card.id)}.*"
        )
    return "\n\n".join(parts) + "\n"


def _validation(figures: dict[str, Any]) -> str:
    rows = [[_NAMES[key], f"{figures[key]:g}"] for key in _NAMES if key in figures]
    parts = [f"{figures['data']}."] if "data" in figures else []
    if rows:
        parts.append(markdown_table(["Figure", "Value"], rows))
    return "\n\n".join(parts) or "Not measured."


def _caption(model: str) -> str:
    source, real = SHOWN[model]
    names = {T1: "T1", FLAIR: "FLAIR"}
    shown = f"Real {names[source]}, synthetic {model.upper()}"
    last = f", real {names[real]}" if real is not None else ""
    return (
        f"{shown}{last}: one patient of openms (CC BY) whom no model saw, default "
        "options; axial, coronal, sagittal"
    )


def draw(model: str, path: Path) -> None:
    """Source, output and the real image where there is one, a row each, on the source's grid."""
    import matplotlib

    matplotlib.use("Agg")
    import SimpleITK as sitk
    from matplotlib import pyplot
    from midiffusion.images.io import read_volume
    from midiffusion.pipeline.target import load_model

    source, real = SHOWN[model]
    made = load_model(model).translate(read_volume(source))
    grid = sitk.ReadImage(str(source))
    output = sitk.GetImageFromArray(made.volume.data)
    output.CopyInformation(grid)
    images = [grid, output]
    if real is not None:
        moved = sitk.Resample(sitk.ReadImage(str(real)), grid, sitk.Transform(), sitk.sitkLinear)
        images.append(moved)
    upright = [sitk.DICOMOrient(image, "LPS") for image in images]
    si, sj, sk = upright[0].GetSpacing()
    columns = 5
    figure, axes = pyplot.subplots(
        len(images), columns, figsize=(2.4 * columns, 2.6 * len(images)), facecolor="black"
    )
    for row, image in zip(axes, upright, strict=True):
        data = sitk.GetArrayFromImage(image).astype(np.float32)
        low, high = np.percentile(data, 0.5), np.percentile(data, 99.7)
        nk, nj, ni = data.shape
        cuts = [(data[int(nk * height)], sj / si) for height in (0.35, 0.55, 0.72)]
        cuts += [(data[::-1, nj // 2], sk / si), (data[::-1, :, ni // 2], sk / sj)]
        for axis, (cut, aspect) in zip(row, cuts, strict=True):
            axis.imshow(cut, cmap="gray", vmin=low, vmax=high, aspect=aspect)
            axis.set_axis_off()
    figure.tight_layout(pad=0.2)
    figure.savefig(path, dpi=60)
    pyplot.close(figure)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code. Raises InvalidCard for a card that can't be read."""
    parser = Arguments(prog="midiffusion-research model-cards", description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", action="store_true", help="draw the pictures too")
    options = parser.parse_args(argv)
    DOCUMENTS.mkdir(parents=True, exist_ok=True)
    for entry in registry.available():
        if entry.card is None:
            raise InvalidCard(f"The card of {entry.id} can't be read: {entry.problem}")
        if options.pictures:
            draw(entry.id, DOCUMENTS / f"{entry.id}.png")
        (DOCUMENTS / f"{entry.id}.md").write_text(document(entry.card), encoding="utf-8")
    return 0
