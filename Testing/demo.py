"""`make demo`: the bundled T1-weighted head becomes a FLAIR and a CT in a real MRML scene.

The scene is slicer-core's, the way through it the module's own logic (the part without Qt) and its
worker process. Everything lands in out/demo; the real FLAIR of the same patient serves for
comparison only.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "MIDiffusionTranslate"))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import SimpleITK as sitk  # noqa: E402
import slicer  # noqa: E402
from matplotlib import pyplot  # noqa: E402
from midiffusion import metrics  # noqa: E402
from midiffusion.errors import MIDiffusionError  # noqa: E402
from midiffusion.images.intensity import PercentileIntensity, head_mask  # noqa: E402
from midiffusion.runtime.progress import TranslationBar  # noqa: E402
from MIDiffusionTranslateLib.logic import TranslateLogic  # noqa: E402
from MIDiffusionTranslateLib.worker.translation import TranslationJob  # noqa: E402

DATA = ROOT / "Resources" / "SampleData"
SOURCE = DATA / "openms_long19_T1W.nii.gz"
REAL = DATA / "openms_long19_FLAIR.nii.gz"
OUT = ROOT / "out" / "demo"
TARGETS = ("flair", "ct", "t1", "t2", "pd")
T1, SYNTHETIC, FLAIR = "Real T1 (source)", "Synthetic FLAIR", "Real FLAIR"
ERROR, CT = "Expected error of the FLAIR", "Synthetic CT"
CT_HU = (-200.0, 800.0)  # window of the picture


def main(targets: tuple[str, ...] = TARGETS, models: Path | None = None, out: Path = OUT) -> None:
    """Translate, save, compare, and say where everything is."""
    out.mkdir(parents=True, exist_ok=True)
    scene = newScene()
    source = loadVolume(scene, SOURCE)
    jobs = {}
    for target in targets:
        print(f"Translating {SOURCE.name} to '{target}' ...", file=sys.stderr)
        jobs[target] = translate(source, target, models)
        save(saveVolume(jobs[target].node, out / f"{target}.nrrd"), out / f"{target}.nrrd")
    first = jobs[targets[0]]
    save(saveVolume(first.errorMapNode, out / "error_map.nrrd"), out / "error_map.nrrd")
    save(saveScene(scene, out / "scene.mrb"), out / "scene.mrb")
    images = {
        T1: inHead(sitk.ReadImage(str(SOURCE))),
        SYNTHETIC: sitk.ReadImage(str(out / f"{targets[0]}.nrrd")) / 1000.0,
        FLAIR: inHead(onGridOf(sitk.ReadImage(str(REAL)), sitk.ReadImage(str(SOURCE)))),
        ERROR: sitk.ReadImage(str(out / "error_map.nrrd")) / 1000.0,
    }
    if "ct" in targets:
        images[CT] = sitk.ReadImage(str(out / "ct.nrrd"))
    picture(images, out / "comparison.png")
    sheet({target: sitk.ReadImage(str(out / f"{target}.nrrd")) for target in targets}, out)
    report(first, images)
    for name in (*(f"{t}.nrrd" for t in targets), "error_map.nrrd", "scene.mrb", "comparison.png"):
        print(out / name)
    print(out / "targets.png")
    print("Synthetic images: research use only, not for diagnosis.")


def save(done: bool, path: Path) -> None:
    if not done:
        sys.exit(f"error: {path} could not be written; is the folder writable?")


def newScene() -> Any:
    """A scene as the application would have it: with the default colours."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colours = application.GetColorLogic()
    colours.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    return scene


def loadVolume(scene: Any, path: Path) -> Any:
    """A scalar volume node with the file's image, displayed as Slicer would."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.name.removesuffix(".nii.gz"))
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        sys.exit(f"error: {path} could not be read; restore it from the repository.")
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOn()
    return node


def translate(source: Any, target: str, models: Path | None) -> TranslationJob:
    """Run the module's job to its end, with a progress bar on stderr."""
    folder = None if models is None else str(models)
    logic = TranslateLogic()
    with TranslationBar(sys.stderr) as bar:
        job = logic.start(source, target, modelFolder=folder, errorMap=True, onProgress=bar.show)
        try:
            while not job.finished:
                time.sleep(0.02)
                job.poll()
        finally:
            job.abandon()
            logic.abandonAll()
    if job.error is not None:
        raise job.error
    return job


def saveVolume(node: Any, path: Path) -> bool:
    path.unlink(missing_ok=True)
    node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    storage.SetFileName(str(path))
    return bool(storage.WriteData(node))


def saveScene(scene: Any, path: Path) -> bool:
    path.unlink(missing_ok=True)
    return bool(scene.WriteToMRB(str(path)))


def onGridOf(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """`image` resampled linearly to another image's grid; the headers align the two."""
    return sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)


def inHead(image: sitk.Image) -> sitk.Image:
    """Model units: the 99.5th percentile inside the head at 1."""
    values, _ = PercentileIntensity().forward(sitk.GetArrayFromImage(image))
    scaled = sitk.GetImageFromArray(values)
    scaled.CopyInformation(image)
    return scaled


def upright(images: dict[str, sitk.Image]) -> dict[str, np.ndarray]:
    """Arrays whose axes i, j, k run to the patient's left, back and top."""
    return {
        name: sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
        for name, image in images.items()
    }


def window(name: str, array: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """How imshow displays a volume: CT in a bone window, errors in colour, MR by its brain."""
    if name.lower() in ("ct", CT.lower()):
        return {"cmap": "gray", "vmin": CT_HU[0], "vmax": CT_HU[1]}
    if name == ERROR:
        return {"cmap": "magma", "vmin": 0, "vmax": float(np.percentile(array[mask], 99))}
    return {"cmap": "gray", "vmin": 0, "vmax": float(np.percentile(array[mask], 98))}


def picture(images: dict[str, sitk.Image], path: Path) -> None:
    """All volumes in three orientations through the middle of the head, as radiologists look."""
    arrays = upright(images)
    si, sj, sk = sitk.DICOMOrient(next(iter(images.values())), "LPS").GetSpacing()
    mask = head_mask(arrays[FLAIR])
    k, j, i = (int(np.median(positions)) for positions in np.nonzero(mask))
    cuts = {
        "axial": (lambda a: a[k], sj / si),
        "coronal": (lambda a: a[::-1, j], sk / si),
        "sagittal": (lambda a: a[::-1, :, i], sk / sj),
    }
    nk, nj, ni = mask.shape
    heights = [nj * sj, nk * sk, nk * sk]
    figure, axes = pyplot.subplots(
        3,
        len(arrays),
        figsize=(3 * len(arrays), 2.9 * sum(heights) / (ni * si) + 0.8),
        facecolor="black",
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
        squeeze=False,
    )
    for column, (name, array) in enumerate(arrays.items()):
        for row, (orientation, (cut, aspect)) in enumerate(cuts.items()):
            axis = axes[row, column]
            axis.imshow(cut(array), aspect=aspect, **window(name, array, mask))
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(orientation, color="white")
        axes[0, column].set_title(name, color="white")
    finish(figure, path)


def sheet(images: dict[str, sitk.Image], out: Path) -> None:
    """All targets from one source: three axial slices of each."""
    arrays = upright(images)
    mask = next(iter(arrays.values())) > 0
    places = [int(share * len(mask)) for share in (0.4, 0.55, 0.7)]
    figure, axes = pyplot.subplots(
        len(places),
        len(arrays),
        figsize=(3 * len(arrays), 3.6 * len(places)),
        facecolor="black",
        layout="constrained",
        squeeze=False,
    )
    for column, (name, array) in enumerate(arrays.items()):
        for row, k in enumerate(places):
            axes[row, column].imshow(array[k], **window(name, array, mask))
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(f"Synthetic {name.upper()}", color="white")
    finish(figure, out / "targets.png")


def finish(figure: Any, path: Path) -> None:
    figure.supxlabel(
        "Synthetic images: research use only, not for diagnosis. "
        "T1 and real FLAIR: Lesjak et al. 2016, CC BY 4.0.",
        color="white",
        fontsize=9,
    )
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def figuresAgainst(real: np.ndarray, candidate: np.ndarray) -> str:
    """SSIM, PSNR and MAE over the head; images on the scale where its 99.5th percentile is 1."""
    mask = head_mask(real)
    ssim = float(metrics.ssim_map(candidate, real)[mask].mean())
    psnr = metrics.psnr(metrics.mean_squared_error(candidate, real, mask))
    mae = metrics.mean_absolute_error(candidate, real, mask)
    return f"SSIM {ssim:.3f}   PSNR {psnr:4.1f} dB   MAE {mae:.3f}"


def report(job: TranslationJob, images: dict[str, sitk.Image]) -> None:
    how = job.provenance
    arrays = {name: sitk.GetArrayFromImage(image) for name, image in images.items()}
    real = arrays[FLAIR]
    print(f"Device {how['device']}, {how['views']} views: {job.elapsed_s:.0f} s for the FLAIR.")
    print("Against the real FLAIR, in the head, after one gain:")
    mask = head_mask(real)
    for label, name in (("synthetic FLAIR ", SYNTHETIC), ("the T1 unchanged", T1)):
        values = arrays[name][mask].astype(np.float64)
        gain = float((values * real[mask]).sum() / (values**2).sum())
        print(f"  {label}   {figuresAgainst(real, gain * arrays[name])}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        main()
    except MIDiffusionError as error:
        sys.exit(f"error: {error}")
