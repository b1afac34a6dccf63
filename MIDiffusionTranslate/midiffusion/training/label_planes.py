"""Random planes of label maps of whole heads: the anatomy from which synthetic heads are made.

A plane has any of the three orientations and a thickness of 0 to 6 mm (several parallel planes).
The head is rotated, tilted, scaled and deformed smoothly in three dimensions. Planes are drawn at
twice the model's resolution, so that averaging them down gives correct partial volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidData
from ..images.formats import READ_ENDINGS, volume_files
from .tissues import TissueTable

OVERSAMPLING = 2  # samples along the side of a pixel
PARALLEL = 3  # planes over the thickness of a slice


@dataclass(frozen=True)
class LabelMap:
    """A head at 1 mm.

    Args:
        codes: uint8 [k, j, i], codes of a `TissueTable`; k runs to superior, j to anterior.
        low, high: corner voxels of cerebrum and cerebellum, float32 [3] each.
    """

    codes: Tensor
    low: Tensor
    high: Tensor


def read_label_maps(folder: Path, tissues: TissueTable) -> list[LabelMap]:
    """All label maps of a folder; voxels hold codes of the tissue table or FreeSurfer labels.

    Raises:
        InvalidData: no label maps, a label that the table lacks, no voxel size, or no brain.
    """
    paths = volume_files(folder)
    if not paths:
        raise InvalidData(
            f"{folder} holds no label maps ({', '.join(READ_ENDINGS)}): name a folder of "
            "whole-head label maps with --heads."
        )
    return [_read(path, tissues) for path in paths]


def _read(path: Path, tissues: TissueTable) -> LabelMap:
    try:
        image = sitk.ReadImage(str(path))
        if image.GetDimension() != 3:
            raise InvalidData(f"{path} is not a 3-D label map.")
        if min(image.GetSpacing()) <= 0:
            raise InvalidData(f"{path} has no voxel size: correct its header.")
        image = sitk.DICOMOrient(image, "LAS" if _is_flipped(image) else "RAS")
        image = _at_1_mm(image)
    except RuntimeError as error:
        raise InvalidData(f"{path} cannot be read as a label map.") from error
    codes = _codes(sitk.GetArrayFromImage(image), path, tissues)
    brain = torch.isin(codes, tissues.codes("cerebral white matter", "cerebral cortex")).nonzero()
    below = torch.isin(codes, tissues.codes("cerebellum cortex")).nonzero()
    if not len(brain) or not len(below):
        raise InvalidData(f"{path} shows no cerebrum or no cerebellum: it is not a whole head.")
    low, high = brain.min(0).values.float(), brain.max(0).values.float()
    low[0] = float(below[:, 0].min()) - 10
    return LabelMap(codes, low, high)


def _is_flipped(image: sitk.Image) -> bool:
    return float(np.linalg.det(np.reshape(image.GetDirection(), (3, 3)))) < 0


def _at_1_mm(image: sitk.Image) -> sitk.Image:
    spacing = image.GetSpacing()
    if max(abs(s - 1) for s in spacing) < 0.01:
        return image
    size = [max(1, round(n * s)) for n, s in zip(image.GetSize(), spacing, strict=True)]
    return sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        image.GetOrigin(),
        (1.0, 1.0, 1.0),
        image.GetDirection(),
    )


def _codes(labels: np.ndarray, path: Path, tissues: TissueTable) -> Tensor:
    """Codes from codes, or from FreeSurfer labels where a value is above the highest code."""
    found = np.unique(labels)
    known = {code: code for code in range(len(tissues.names))}
    if found.max(initial=0) >= len(tissues.names):
        known = {label: code for code, label in enumerate(tissues.freesurfer) if label >= 0}
    missing = [int(label) for label in found if int(label) not in known]
    if missing:
        raise InvalidData(f"{path}: the tissue table has no label {missing[0]}.")
    table = np.zeros(int(found.max(initial=0)) + 1, np.uint8)
    for label in found:
        table[int(label)] = known[int(label)]
    return torch.from_numpy(table[labels])


@dataclass(frozen=True)
class PlaneSettings:
    """Ranges of the random planes.

    Args:
        size: side of the model's images, pixels.
        pixel_mm: side of the model's pixels.
        thickness_mm: largest slice thickness.
        rotation_deg, tilt_deg: largest rotation in the plane, and of the plane, either way.
        scale: largest relative change of size; aspect: of one axis against the other.
        deformation_mm: largest standard deviation of the deformation.
        across: axes that the planes lie across: 0 axial, 1 coronal, 2 sagittal.
    """

    size: int = 128
    pixel_mm: float = 190 / 114
    thickness_mm: float = 6.0
    rotation_deg: float = 15.0
    tilt_deg: float = 12.0
    scale: float = 0.10
    aspect: float = 0.05
    deformation_mm: float = 4.0
    across: tuple[int, ...] = (0, 1, 2)


def draw_planes(
    maps: list[LabelMap],
    tissues: TissueTable,
    count: int,
    generator: torch.Generator,
    settings: PlaneSettings | None = None,
) -> Tensor:
    """Random planes, uint8 [count, size, size, samples]: the codes of the samples of each pixel,
    OVERSAMPLING x OVERSAMPLING on each of PARALLEL planes.

    Rows run from anterior (axial) or superior (coronal, sagittal). Soft tissue below the skin is
    split into fat and muscle.
    """
    settings = settings or PlaneSettings()
    drawn = []
    for _ in range(count):
        head = maps[int(torch.randint(len(maps), (1,), generator=generator))]
        planes = _one_plane(head, settings, generator)
        planes = _with_fat(planes, tissues, settings, generator)
        drawn.append(F.pixel_unshuffle(planes, OVERSAMPLING).permute(1, 2, 0))
    return torch.stack(drawn)


def _uniform(low: float, high: float, g: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=g))


def smooth_noise(shape: tuple[int, ...], cells: int, g: torch.Generator) -> Tensor:
    """Noise of about unit variance with `cells` cells along each side; like `shape` (2-D)."""
    coarse = torch.randn(1, 1, cells, cells, generator=g)
    return F.interpolate(coarse, shape, mode="bicubic", align_corners=True)[0, 0]


def _one_plane(head: LabelMap, settings: PlaneSettings, g: torch.Generator) -> Tensor:
    n = settings.size * OVERSAMPLING
    step = settings.pixel_mm / OVERSAMPLING * math.exp(_uniform(-1, 1, g) * settings.scale)
    stretch = math.exp(_uniform(-1, 1, g) * settings.aspect)
    ticks = (torch.arange(n) - n / 2 + 0.5) * step
    y, x = torch.meshgrid(ticks, ticks * stretch, indexing="ij")
    angle = math.radians(_uniform(-1, 1, g) * settings.rotation_deg)
    y, x = (
        y * math.cos(angle) - x * math.sin(angle),
        y * math.sin(angle) + x * math.cos(angle),
    )
    if _uniform(0, 1, g) < 0.5:
        x = -x
    tilts = [math.tan(math.radians(_uniform(-1, 1, g) * settings.tilt_deg)) for _ in range(2)]
    across = settings.across[int(torch.randint(len(settings.across), (1,), generator=g))]
    centre = (head.low + head.high) / 2 + torch.tensor([_uniform(-10, 10, g) for _ in range(3)])
    centre[across] = head.low[across] + (head.high - head.low)[across] * _uniform(0.02, 0.98, g)
    thickness = _uniform(0, settings.thickness_mm, g)
    field = torch.randn(1, 3, 6, 6, 6, generator=g)
    field = field * _uniform(0, settings.deformation_mm, g)
    planes = []
    for offset in torch.linspace(-thickness / 2, thickness / 2, PARALLEL).tolist():
        z = offset + x * tilts[0] + y * tilts[1]
        k, j, i = ((z, -y, x), (-y, z, x), (-y, x, z))[across]
        where = torch.stack((k, j, i)) + centre[:, None, None]
        planes.append(_sample(head.codes, where + _displacement(field, where, head.codes.shape)))
    return torch.stack(planes)


def _displacement(field: Tensor, where: Tensor, shape: torch.Size) -> Tensor:
    """Millimetres [3, n, n] at voxels `where` [3, n, n], from a coarse field [1, 3, d, d, d]."""
    extent = torch.tensor(shape, dtype=torch.float32)[:, None, None]
    grid = (2 * where / extent - 1).flip(0).permute(1, 2, 0)[None, None]
    found = F.grid_sample(field, grid, padding_mode="border", align_corners=False)
    return found[0, :, 0]


def _sample(codes: Tensor, where: Tensor) -> Tensor:
    """Nearest codes; air outside the map."""
    k, j, i = where.round().int()
    depth, height, width = codes.shape
    inside = (k >= 0) & (k < depth) & (j >= 0) & (j < height) & (i >= 0) & (i < width)
    flat = (k * height + j) * width + i
    found = codes.reshape(-1)[torch.where(inside, flat, 0).long()]
    return torch.where(inside, found, 0)


def _with_fat(
    planes: Tensor, tissues: TissueTable, settings: PlaneSettings, g: torch.Generator
) -> Tensor:
    """Label maps have one class for fat and muscle: fat is a layer of 1 to 9 mm below the skin,
    and a random share of what lies deeper."""
    n = planes.shape[-1]
    middle = (planes[PARALLEL // 2] != 0).numpy().astype(np.uint8)
    head = sitk.BinaryFillhole(sitk.GetImageFromArray(middle))
    depth = sitk.SignedMaurerDistanceMap(head, insideIsPositive=True, squaredDistance=False)
    step = settings.pixel_mm / OVERSAMPLING
    depth_mm = torch.from_numpy(sitk.GetArrayFromImage(depth)) * step
    skin_mm = _uniform(0.8, 2.0, g)
    layer_mm = _uniform(1.0, 9.0, g) * (1 + 0.35 * smooth_noise((n, n), 8, g))
    deep = smooth_noise((n, n), 24, g) + _uniform(-0.9, 0.6, g) > 0
    fat = ((depth_mm > skin_mm) & (depth_mm < skin_mm + layer_mm)) | deep
    muscle, fat_code = tissues.code("muscle"), tissues.code("fat")
    return torch.where((planes == muscle) & fat, fat_code, planes).to(torch.uint8)
