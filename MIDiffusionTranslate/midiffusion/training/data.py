"""Training slices of one target modality, from the supported layouts.

Layouts (told apart by what a folder contains):

- `tcga_lgg`: one RGB WebP sprite of 128 x 128 tiles per patient (T1, FLAIR, tumour mask);
- `synthrad2023_brain`: `{axial,coronal,sagittal}_*.webp` sprites of 192 x 192 tiles (CT, MR, mask)
  with the subject of each row in `*_ids.json`;
- `volumes`: a plain folder of volumes (.nii, .nii.gz, .nrrd, .mha) of the target modality, one
  subject each;
- `slices`: a plain folder of single slices (.png, .tif, .tiff), already at the model's pixel size;
  what precedes the last `_` or `-` of a name is its subject.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DependencyMissing, InvalidData

# Mean adult head length (glabella to occiput, with skin, about 190 mm) over the median length of
# the heads in the training sprites. TCGA-LGG, above 5 % of white: 116 px, less about 2 px for the
# noses that some patients' slices show. SynthRAD, axial CT above -500 HU: 164 px. Scale
# augmentation covers the error.
TCGA_PIXEL_MM = 190.0 / 114.0
SYNTHRAD_PIXEL_MM = 190.0 / 164.0
_CHANNELS = {
    "tcga_lgg": {"T1": 0, "FLAIR": 1, "mask": 2},
    "synthrad2023_brain": {"CT": 0, "MR": 1, "mask": 2},
}
_VOLUME_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
_SLICE_ENDINGS = (".png", ".tif", ".tiff")
_EDGES = (slice(0, 8), slice(-8, None))
# Slices with less head than this are mostly air and teach nothing.
_SMALLEST_HEAD = 0.08


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
        collection: "tcga_lgg", "synthrad2023_brain", "volumes" or "slices".
        channel: which image of the collection; unused for "volumes" and "slices".
        planes: planes to take (synthrad2023_brain only).
        subject_prefix: only subjects whose id starts like this.
        repeat: how often each of its slices counts, where a small collection is one of several.
    """

    collection: str
    channel: str = ""
    planes: tuple[str, ...] = ("axial",)
    subject_prefix: str = ""
    repeat: int = 1


def frozen_split(collection: str) -> tuple[list[str], list[str]]:
    """The frozen (training, validation) subject ids of "tcga_lgg" or "synthrad2023_brain"."""
    splits = json.loads(Path(__file__).with_name("splits.json").read_text())
    return splits[collection]["train"], splits[collection]["val"]


def plain_layout(folder: Path) -> str | None:
    """ "volumes" or "slices" where a folder itself holds such files, else None."""
    names = [path.name.lower() for path in folder.iterdir()]
    for layout, endings in (("volumes", _VOLUME_ENDINGS), ("slices", _SLICE_ENDINGS)):
        if any(name.endswith(endings) for name in names):
            return layout
    return None


def read_sprite(path: Path | str, size: int) -> np.ndarray:
    """Tiles of a sprite, [N, size, size, 3] uint8.

    Raises:
        DependencyMissing: Pillow is not installed.
        InvalidData: not an image, or not a column of square tiles.
    """
    pixels = _read_picture(Path(path), "RGB")
    if pixels.shape[1] != size or pixels.shape[0] % size:
        raise InvalidData(
            f"{path} is not made of {size} x {size} tiles (its shape is {pixels.shape})."
        )
    return pixels.reshape(-1, size, size, 3)


def _read_picture(path: Path, mode: str) -> np.ndarray:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DependencyMissing(
            "Reading pictures needs Pillow; install it with `pip install midiffusion[train]`."
        ) from None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise InvalidData(
            f"{path} cannot be read as an image ({error}); check the download."
        ) from error


def load_slices(
    data: Path | str,
    source: SliceSource,
    *,
    part: str,
    pixel_mm: float,
    size: int,
    intensity: dict,
    orientation: str,
) -> TrainingSlices:
    """Slices of one part ("train" or "val") of a collection, on the model grid.

    Args:
        data: the collection's folder, or one that contains it under its own name.
        source: what to take.
        part: "train" or "val"; the frozen split decides, or for volumes every tenth subject.
        pixel_mm: in-plane pixel size of the model grid.
        size: side of the images, pixels.
        intensity: the card's intensity map, for volumes and plain slices.
        orientation: the card's orientation, for volumes.

    Returns:
        The slices; there may be none in the "val" part.

    Raises:
        InvalidData: nothing usable is there; the sentence says what was looked for.
    """
    folder = Path(data)
    if (folder / source.collection).is_dir():
        folder = folder / source.collection
    if source.collection in ("volumes", "slices"):
        if source.collection == "volumes":
            stacks = _volumes(folder, pixel_mm, orientation, intensity)
        else:
            stacks = _slices(folder, intensity)
        return _from_subjects(stacks, part, size, folder)
    if source.collection not in _CHANNELS:
        known = ", ".join(("volumes", "slices", *_CHANNELS))
        raise InvalidData(f"Unknown collection '{source.collection}'; known: {known}.")
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
        tiles = [tile for tile in tiles if _air_is_dark(tile[1])]
        pixel = TCGA_PIXEL_MM
    else:
        tiles = [
            t
            for plane in source.planes
            for t in _synthrad_plane(folder, plane, channel, wanted_set)
        ]
        pixel = SYNTHRAD_PIXEL_MM
    if not tiles and part == "val":
        return TrainingSlices(np.zeros((0, size, size), np.float32), ())
    if not tiles:
        raise InvalidData(
            f"No training subjects of '{source.collection}' in {folder}: expected WebP sprites."
        )
    images, subjects = [], []
    for subject, stack in tiles:
        resized = _resize(stack.astype(np.float32) / 255.0, pixel / pixel_mm, size)
        images.append(resized)
        subjects += [subject] * len(resized)
    return TrainingSlices(np.concatenate(images), tuple(subjects))


def _air_is_dark(stack: np.ndarray) -> bool:
    """Not so in the T1 of a few TCGA-LGG patients, whose air is as grey as brain (high-pass
    filtered, it seems): no scanner's image, so nothing to learn from."""
    corners = [part[:, :, edge] for part in (stack[:, :8], stack[:, -8:]) for edge in _EDGES]
    return float(np.median(np.concatenate(corners))) < 0.1 * 255


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
        raise InvalidData(
            f"{folder}: {len(rows)} {plane} slices but {len(ids)} ids; files are missing."
        )
    return [(s, row[None]) for s, row in zip(ids, rows, strict=True) if s in wanted]


def _volumes(
    folder: Path, pixel_mm: float, orientation: str, intensity: dict
) -> dict[str, np.ndarray]:
    """Slices of each volume of a folder, model units."""
    from ..grid import SliceGrid
    from ..intensity import intensity_map
    from ..io import read_volume

    mapping, stacks = intensity_map(intensity), {}
    for path in sorted(p for p in folder.iterdir() if p.name.lower().endswith(_VOLUME_ENDINGS)):
        volume = read_volume(path)
        volume.check()
        data, _ = mapping.forward(volume.data)
        stacks[path.name] = SliceGrid.of(volume, pixel_mm, orientation, 8).to_slices(data)
    return stacks


def _slices(folder: Path, intensity: dict) -> dict[str, np.ndarray]:
    """Pictures of a folder by subject, the brightest 0.5 % of each subject's head at 1."""
    from ..intensity import intensity_map

    mapping = intensity_map(intensity)
    pictures: dict[str, list[np.ndarray]] = {}
    for path in sorted(p for p in folder.iterdir() if p.name.lower().endswith(_SLICE_ENDINGS)):
        subject = re.split(r"[_-][^_-]*$", path.stem)[0]
        pictures.setdefault(subject, []).append(_read_picture(path, "F"))
    stacks = {}
    for subject, images in pictures.items():
        size = max(max(image.shape) for image in images)
        stack = np.concatenate([_resize(image[None], 1.0, size) for image in images])
        stacks[subject], _ = mapping.forward(stack)
    return stacks


def _from_subjects(
    stacks: dict[str, np.ndarray], part: str, size: int, folder: Path
) -> TrainingSlices:
    """Slices with enough head in them; every tenth subject is held back for validation."""
    names = sorted(stacks)
    if len(names) < 2:
        raise InvalidData(
            f"{folder} holds images of {len(names)} subject(s); at least 2 are needed."
        )
    held_back = set(names[::10])
    images, subjects = [], []
    for name in names:
        if (name in held_back) != (part == "val"):
            continue
        stack = _resize(np.asarray(stacks[name], dtype=np.float32).clip(0.0, 1.25), 1.0, size)
        stack = stack[(stack > 0.03).mean(axis=(1, 2)) > _SMALLEST_HEAD]
        images.append(stack)
        subjects += [name] * len(stack)
    if not subjects:
        if part == "train":
            raise InvalidData(f"No slice of {folder} shows enough of a head to train on.")
        return TrainingSlices(np.zeros((0, size, size), np.float32), ())
    return TrainingSlices(np.concatenate(images), tuple(subjects))


def _resize(stack: np.ndarray, factor: float, size: int) -> np.ndarray:
    """Scale slices [N, H, W] by `factor` (antialiased) and centre them on `size` x `size`."""
    import torch
    import torch.nn.functional as F

    images = torch.from_numpy(np.array(stack, dtype=np.float32))[:, None]
    if abs(factor - 1.0) > 1e-3:
        shape = [max(1, round(n * factor)) for n in images.shape[2:]]
        images = F.interpolate(images, shape, mode="bicubic", antialias=True).clamp(0.0, 1.25)
    pads = []
    for extent in (images.shape[3], images.shape[2]):
        before = (size - extent) // 2
        pads += [before, size - extent - before]
    return F.pad(images, pads)[:, 0].numpy()
