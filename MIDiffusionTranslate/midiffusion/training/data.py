"""Training slices of one target modality, from the supported layouts.

Layouts (told apart by what a folder contains):

- `tcga_lgg`: one RGB WebP sprite of 128 x 128 tiles per patient (T1, FLAIR, tumour mask);
- `synthrad2023_brain`: `{axial,coronal,sagittal}_*.webp` sprites of 192 x 192 tiles (CT, MR, mask) with
  the subject of each row in `*_ids.json`;
- a plain folder of volumes (.nii, .nii.gz, .nrrd, .mha) of the target modality, one subject each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midiffusion.errors import DependencyMissing, InvalidData

# Mean adult head length (skin to skin, glabella to occiput) over the median length of the heads in the
# sprites, 116 px with the nose in some slices and 114 px without; scale augmentation covers the rest.
TCGA_PIXEL_MM = 190.0 / 114.0
SYNTHRAD_PIXEL_MM = 1.0
_CHANNELS = {
    "tcga_lgg": {"T1": 0, "FLAIR": 1, "mask": 2},
    "synthrad2023_brain": {"CT": 0, "MR": 1, "mask": 2},
}
_VOLUME_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")


@dataclass(frozen=True)
class TrainingSlices:
    """Slices of one modality on the model grid.

    Args:
        images: [N, S, S] float32, model units (air 0, bright end of the head about 1).
        subjects: subject of each slice; a split never divides a subject.
    """

    images: np.ndarray
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class SliceSource:
    """One collection to take slices from; an entry of `sources` in a training configuration.

    Args:
        collection: "tcga_lgg", "synthrad2023_brain" or "volumes".
        channel: which image of the collection; unused for "volumes".
        planes: planes to take (synthrad2023_brain only).
        subject_prefix: only subjects whose id starts like this.
    """

    collection: str
    channel: str = ""
    planes: tuple[str, ...] = ("axial",)
    subject_prefix: str = ""


def frozen_split(collection: str) -> tuple[list[str], list[str]]:
    """The frozen (training, validation) subject ids of "tcga_lgg" or "synthrad2023_brain"."""
    splits = json.loads(Path(__file__).with_name("splits.json").read_text())
    return splits[collection]["train"], splits[collection]["val"]


def read_sprite(path: Path | str, size: int) -> np.ndarray:
    """Tiles of a sprite, [N, size, size, 3] uint8.

    Raises:
        DependencyMissing: Pillow is not installed.
        InvalidData: not an image, or not a column of square tiles.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DependencyMissing(
            "Reading WebP sprites needs Pillow; install it with `pip install midiffusion[train]`."
        ) from None
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InvalidData(f"{path} cannot be read as an image ({error}); check the download.") from error
    if pixels.size % (size * size * 3):
        raise InvalidData(f"{path} is not made of {size} x {size} tiles (its shape is {pixels.shape}).")
    return pixels.reshape(-1, size, size, 3)


def load_slices(
    data: Path | str, source: SliceSource, *, part: str, pixel_mm: float, size: int, intensity: dict
) -> TrainingSlices:
    """Slices of one part ("train" or "val") of a collection, on the model grid.

    Args:
        data: the collection's folder, or one that contains it under its own name.
        source: what to take.
        part: "train" or "val"; the frozen split decides, or for volumes every tenth subject.
        pixel_mm: in-plane pixel size of the model grid.
        size: side of the images, pixels.
        intensity: the card's intensity map, for volumes.

    Raises:
        InvalidData: nothing usable is there; the sentence says what was looked for.
    """
    folder = Path(data)
    if (folder / source.collection).is_dir():
        folder = folder / source.collection
    if source.collection == "volumes":
        return _from_volumes(folder, part, pixel_mm, size, intensity)
    if source.collection not in _CHANNELS:
        raise InvalidData(f"Unknown collection '{source.collection}'; known: volumes, {', '.join(_CHANNELS)}.")
    channel = _CHANNELS[source.collection].get(source.channel)
    if channel is None:
        raise InvalidData(f"Collection '{source.collection}' has no channel '{source.channel}'.")
    wanted = frozen_split(source.collection)[0 if part == "train" else 1]
    wanted_set = {s for s in wanted if s.startswith(source.subject_prefix)}
    if source.collection == "tcga_lgg":
        tiles = [
            (path.stem, read_sprite(path, 128)[..., channel])
            for path in sorted(folder.glob("TCGA_*.webp"))
            if path.stem in wanted_set
        ]
        pixel = TCGA_PIXEL_MM
    else:
        tiles = [t for plane in source.planes for t in _synthrad_plane(folder, plane, channel, wanted_set)]
        pixel = SYNTHRAD_PIXEL_MM
    if not tiles:
        raise InvalidData(
            f"No {part} subjects of '{source.collection}' in {folder}; expected its WebP sprites there."
        )
    images, subjects = [], []
    for subject, stack in tiles:
        resized = _resize(stack.astype(np.float32) / 255.0, pixel / pixel_mm, size)
        images.append(resized)
        subjects += [subject] * len(resized)
    return TrainingSlices(np.concatenate(images), tuple(subjects))


def _synthrad_plane(
    folder: Path, plane: str, channel: int, wanted: set[str]
) -> list[tuple[str, np.ndarray]]:
    ids_file = folder / f"{plane}_ids.json"
    if not ids_file.is_file():
        raise InvalidData(f"{ids_file} is missing; it names the subject of each slice.")
    ids = json.loads(ids_file.read_text())
    parts = sorted(folder.glob(f"{plane}_[0-9]*.webp"))
    rows = np.concatenate([read_sprite(path, 192)[..., channel] for path in parts])
    if len(rows) != len(ids):
        raise InvalidData(f"{folder}: {len(rows)} {plane} slices but {len(ids)} ids; files are missing.")
    return [(s, row[None]) for s, row in zip(ids, rows, strict=True) if s in wanted]


def _from_volumes(folder: Path, part: str, pixel_mm: float, size: int, intensity: dict) -> TrainingSlices:
    from midiffusion.grid import SliceGrid
    from midiffusion.intensity import intensity_map
    from midiffusion.io import read_volume

    paths = sorted(p for p in folder.iterdir() if p.name.lower().endswith(_VOLUME_ENDINGS))
    if len(paths) < 2:
        raise InvalidData(
            f"{folder} holds {len(paths)} volume(s) ({', '.join(_VOLUME_ENDINGS)}); at least 2 are needed."
        )
    held_back = paths[::10]
    chosen = held_back if part == "val" else [p for p in paths if p not in held_back]
    mapping = intensity_map(intensity)
    images, subjects = [], []
    for path in chosen:
        volume = read_volume(path)
        data, _ = mapping.forward(volume.data)
        slices = SliceGrid.of(volume, pixel_mm, "axial", 8).to_slices(data)
        slices = _resize(np.asarray(slices, dtype=np.float32), 1.0, size)
        slices = slices[(slices > 0.03).mean(axis=(1, 2)) > 0.08]
        images.append(slices)
        subjects += [path.name] * len(slices)
    return TrainingSlices(np.concatenate(images), tuple(subjects))


def _resize(stack: np.ndarray, factor: float, size: int) -> np.ndarray:
    """Scale slices [N, H, W] by `factor` (antialiased) and centre them on `size` x `size`."""
    import torch
    import torch.nn.functional as F

    images = torch.from_numpy(np.ascontiguousarray(stack))[:, None]
    if abs(factor - 1.0) > 1e-3:
        shape = [max(1, round(n * factor)) for n in images.shape[2:]]
        images = F.interpolate(images, shape, mode="bicubic", antialias=True).clamp(0.0, 1.25)
    pads = []
    for extent in (images.shape[3], images.shape[2]):
        before = (size - extent) // 2
        pads += [before, size - extent - before]
    return F.pad(images, pads)[:, 0].numpy()
