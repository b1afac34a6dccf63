"""Rigid registration of one volume to another of the same person, remembered in a folder.

Mattes' mutual information (50 bins) over a tenth of the voxels, drawn with a fixed seed, from
coarse to fine (4 and 2 voxels, smoothed by 4 and 2 mm), starting from what the headers say: meant
for images of one session, which a few millimetres and degrees set apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from midiffusion.errors import InvalidData, UnwritableTarget
from midiffusion.images.volume import Volume
from numpy.typing import NDArray

from .volumes import image_of

# A change of what `rigid` does makes remembered results worthless: count up.
_VERSION = 1
_BINS, _SHARE, _SEED, _STEPS = 50, 0.1, 20230130, 100


def memory() -> Path:
    """Where results are remembered: the folder that the environment variable MIDIFFUSION_CACHE
    names, else midiffusion in the user's cache folder."""
    chosen = os.environ.get("MIDIFFUSION_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "midiffusion"


def registered(moving: Volume, fixed: Volume, files: tuple[Path, Path]) -> Volume:
    """`moving` with the ijkToRAS that aligns it with `fixed`; its voxels stay as they are.

    files: those of the two, by whose content the result is remembered. Raises InvalidData where
    registration fails and UnwritableTarget where the result can't be kept.
    """
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key = hashlib.sha256(json.dumps([_VERSION, *digests]).encode()).hexdigest()[:32]
    path = memory() / "rigid" / f"{key}.json"
    motion = _remembered(path)
    if motion is None:
        try:
            motion = rigid(moving, fixed)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InvalidData(
                f"{files[0]} can't be registered to {files[1]} ({reason}): check that both show "
                "the same person."
            ) from error
        _remember(path, motion, [file.name for file in files])
    return Volume(moving.data, np.linalg.inv(motion) @ moving.ijkToRAS, moving.modality)


def rigid(moving: Volume, fixed: Volume) -> NDArray[np.float64]:
    """4x4 that maps a point of `fixed` (RAS in mm) to the same anatomy's point in `moving`.

    Raises RuntimeError where the images do not overlap.
    """
    target = image_of(fixed)
    size = np.array(target.GetSize())
    centre = target.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist())
    start = sitk.Euler3DTransform()
    start.SetCenter(centre)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SHARE, seed=_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=_STEPS
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(target, image_of(moving))
    motion = np.eye(4)
    motion[:3, :3] = np.reshape(start.GetMatrix(), (3, 3))
    motion[:3, 3] = start.TransformPoint((0.0, 0.0, 0.0))
    return motion


def _remembered(path: Path) -> NDArray[np.float64] | None:
    try:
        motion = np.array(json.loads(path.read_text())["fixed_to_moving_ras"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return motion if motion.shape == (4, 4) and np.isfinite(motion).all() else None


def _remember(path: Path, motion: NDArray[np.float64], names: list[str]) -> None:
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(
                json.dumps({"moving_and_fixed": names, "fixed_to_moving_ras": motion.tolist()})
            )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableTarget(
            f"{path} can't be written ({error.strerror or error}): let MIDIFFUSION_CACHE name a "
            "folder for registrations that you may write to."
        ) from error
