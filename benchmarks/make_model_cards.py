"""Writes docs/models/<id>.md from the cards of the shipped models, and the pictures on request.

    make model-cards                                   (or: python benchmarks/make_model_cards.py)
    python benchmarks/make_model_cards.py --pictures   (translates the openms heads: minutes)

Nothing in the documents is written by hand; a test compares them with the cards. The pictures show
CC BY volumes alone (openms), for the patients of the other collections must not be shown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "MIDiffusionTranslate"))

from midiffusion import registry  # noqa: E402
from midiffusion.card import ModelCard  # noqa: E402
from midiffusion.evaluation.bootstrap import Interval  # noqa: E402
from midiffusion.evaluation.report import estimate_text, markdown_table  # noqa: E402

DOCUMENTS = ROOT / "docs/models"
DATA = ROOT / "Resources/SampleData"
T1, FLAIR = DATA / "openms_long19_T1W.nii.gz", DATA / "openms_long19_FLAIR.nii.gz"
# Of each model: source, and the real image where there is one.
SHOWN = {"flair": (T1, FLAIR), "t1": (FLAIR, T1), "ct": (T1, None)}

_NAMES = {
    "ssim": "SSIM head",
    "ssim_full": "SSIM full",
    "psnr": "PSNR head (dB)",
    "mae": "MAE head",
    "mae_hu": "MAE head (HU)",
    "mi": "MI head (nats)",
    "flicker_gain": "Flicker, one gain",
    "lesion_contrast": "Lesion contrast",
    "lesion_contrast_real": "the same, real",
    "false_hyperintense": "False hyperintensity",
}


def document(card: ModelCard) -> str:
    """The card in words."""
    training = card.training
    minutes = f"{training['minutes']:.0f} minutes" if "minutes" in training else "not recorded"
    trained = [
        f"**Data**: {training['data']}.",
        f"**Licence of the data**: {training['licence']}. **Of the weights**: "
        f"{card.weights_licence}{', non-commercial use only' if card.non_commercial else ''}.",
        f"**Training**: {training.get('subjects', '?')} subjects, {training.get('slices', '?')} "
        f"slices, {training.get('images_seen', 0):,} augmented images, {minutes} on "
        f"{training.get('device', '?')}.",
    ]
    if "note" in training:
        trained.append(f"**Note**: {training['note']}")
    size = card.weights_bytes / 1e6
    parts = [
        f"# {card.title} (`{card.id}`)",
        "*Written by `make model-cards` from the model's card; not to be edited by hand.*",
        f"{card.intended_use}",
        f"**Anatomy**: {card.anatomy}. **Field of view**: {card.field_of_view}; {card.orientation} "
        f"slices, {card.pixel_mm:.2f} mm a pixel. **Weights**: {size:.1f} MB, "
        "the same for every number of steps.",
        *trained,
        "## Limits and failures\n\n" + "\n".join(f"- {limit}" for limit in card.limits),
        "## Validation\n\n" + _validation(card.validation),
    ]
    if card.seconds_per_slice:
        rows = [[device, f"{s:.2f}"] for device, s in card.seconds_per_slice.items()]
        table = markdown_table(["Device", "Seconds a slice"], rows)
        parts.append(f"## Time\n\nOne sample of {card.default_steps} evaluations:\n\n{table}")
    if (DOCUMENTS / f"{card.id}.png").is_file():
        parts.append(
            f"## Picture\n\n![{_caption(card.id)}]({card.id}.png)\n\n*{_caption(card.id)}.*"
        )
    return "\n\n".join(parts) + "\n"


def _validation(figures: dict[str, Any]) -> str:
    sections = [str(figures["what"]) + "."] if "what" in figures else []
    for name, methods in figures.items():
        if name == "what":
            continue
        keys = [key for key in _NAMES if any(key in found for found in methods.values())]
        rows = [
            [method, *(_cell(found.get(key), 0 if key == "mae_hu" else 3) for key in keys)]
            for method, found in methods.items()
        ]
        sections.append(f"### {name}")
        sections.append(markdown_table(["Method", *(_NAMES[key] for key in keys)], rows))
    return "\n\n".join(sections) if sections else "Not measured."


def _cell(found: list[float] | None, decimals: int) -> str:
    return estimate_text(None if found is None else Interval(*found), decimals)


def _caption(model: str) -> str:
    source, real = SHOWN[model]
    names = {T1: "T1", FLAIR: "FLAIR"}
    shown = f"Real {names[source]}, synthetic {model.upper()}"
    last = f", real {names[real]}" if real is not None else ""
    return (
        f"{shown}{last}: one patient of openms (CC BY) whom no model saw, one sample, as by "
        "default; axial, coronal, sagittal"
    )


def draw(model: str, path: Path) -> None:
    """Source, output and the real image where there is one, a row each, on the source's grid."""
    import matplotlib

    matplotlib.use("Agg")
    import midiffusion
    import SimpleITK as sitk
    from matplotlib import pyplot

    source, real = SHOWN[model]
    made = midiffusion.load_model(model).translate(midiffusion.read_volume(source))
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


def main(arguments: list[str]) -> None:
    """Write every document; with --pictures the pictures before."""
    DOCUMENTS.mkdir(parents=True, exist_ok=True)
    for entry in registry.available():
        if entry.card is None:
            sys.exit(f"error: the card of {entry.id} can't be read: {entry.problem}")
        if "--pictures" in arguments:
            draw(entry.id, DOCUMENTS / f"{entry.id}.png")
        (DOCUMENTS / f"{entry.id}.md").write_text(document(entry.card), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
