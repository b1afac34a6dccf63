"""`make demo`: the bundled T1-weighted head becomes a FLAIR in a real MRML scene.

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
from midiffusion.errors import MIDiffusionError  # noqa: E402
from midiffusion.evaluation import metrics  # noqa: E402
from midiffusion.intensity import PercentileIntensity, head_mask  # noqa: E402
from midiffusion.progress import TranslationBar  # noqa: E402
from MIDiffusionTranslateLib.logic import TranslateLogic  # noqa: E402
from MIDiffusionTranslateLib.translationjob import TranslationJob  # noqa: E402

DATA = ROOT / "Resources" / "SampleData"
SOURCE = DATA / "openms_long19_T1W.nii.gz"
REAL = DATA / "openms_long19_FLAIR.nii.gz"
OUT = ROOT / "out" / "demo"
T1, SYNTHETIC, FLAIR, DEVIATION = "Real T1 (source)", "Synthetic FLAIR", "Real FLAIR", "Deviation"
# Fat, three times as bright as brain, would leave the brain dark (the real FLAIR suppresses it).
BRIGHTEST = {T1: 0.6, SYNTHETIC: 0.6}
STEPS, SAMPLES, SEED = 4, 6, 0  # ten seconds on two cores that do nothing else


def main(model: str = "flair", out: Path = OUT, steps: int = STEPS) -> None:
    """Translate, save, compare, and say where everything is."""
    out.mkdir(parents=True, exist_ok=True)
    scene = newScene()
    source = loadVolume(scene, SOURCE)
    print(f"Translating {SOURCE.name} with model '{model}' ...", file=sys.stderr)
    job = translate(source, model, steps)
    files = {
        "translated.nrrd": lambda path: saveVolume(job.node, path),
        "uncertainty.nrrd": lambda path: saveVolume(job.uncertaintyNode, path),
        "scene.mrb": lambda path: saveScene(scene, path),
    }
    for name, save in files.items():
        if not save(out / name):
            sys.exit(f"error: {out / name} could not be written; is the folder writable?")
    images = {
        T1: inHead(sitk.ReadImage(str(SOURCE))),
        SYNTHETIC: sitk.ReadImage(str(out / "translated.nrrd")) / 1000.0,
        FLAIR: inHead(onGridOf(sitk.ReadImage(str(REAL)), sitk.ReadImage(str(SOURCE)))),
        DEVIATION: sitk.ReadImage(str(out / "uncertainty.nrrd")) / 1000.0,
    }
    picture(images, out / "comparison.png")
    report(job, images, out)


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


def translate(source: Any, model: str, steps: int) -> TranslationJob:
    """Run the module's job to its end, with a progress bar on stderr."""
    with TranslationBar(sys.stderr) as bar:
        job = TranslateLogic().start(
            source, model, steps=steps, seed=SEED, samples=SAMPLES, onProgress=bar.show
        )
        try:
            while not job.finished:
                time.sleep(0.02)
                job.poll()
        finally:
            job.abandon()
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


def picture(images: dict[str, sitk.Image], path: Path) -> None:
    """Four volumes in three orientations through the middle of the head, as radiologists look."""
    # Axes i, j, k then run to the patient's left, back and top.
    upright = {name: sitk.DICOMOrient(image, "LPS") for name, image in images.items()}
    arrays = {name: sitk.GetArrayFromImage(image) for name, image in upright.items()}
    mask = head_mask(arrays[FLAIR])
    k, j, i = (int(np.median(positions)) for positions in np.nonzero(mask))
    si, sj, sk = next(iter(upright.values())).GetSpacing()
    cuts = {
        "axial": (lambda a: a[k], sj / si),
        "coronal": (lambda a: a[::-1, j], sk / si),
        "sagittal": (lambda a: a[::-1, :, i], sk / sj),
    }
    nk, nj, ni = mask.shape
    heights = [nj * sj, nk * sk, nk * sk]
    figure, axes = pyplot.subplots(
        3,
        4,
        figsize=(12, 2.9 * sum(heights) / (ni * si) + 1.4),
        facecolor="black",
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    spread = max(float(np.percentile(arrays[DEVIATION][mask], 99.5)), 1e-3)
    for column, (name, array) in enumerate(arrays.items()):
        looks = {"cmap": "gray", "vmax": BRIGHTEST.get(name, 1.0)}
        if name == DEVIATION:
            looks = {"cmap": "magma", "vmax": spread}
        for row, (orientation, (cut, aspect)) in enumerate(cuts.items()):
            axis = axes[row, column]
            shown = axis.imshow(cut(array), vmin=0, aspect=aspect, **looks)
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(orientation, color="white")
        axes[0, column].set_title(name, color="white")
        bar = figure.colorbar(shown, ax=axes[:, column], location="bottom", shrink=0.8, pad=0.01)
        bar.ax.tick_params(colors="white")
        bar.set_label(
            f"standard deviation of {SAMPLES} samples"
            if name == DEVIATION
            else "99.5th percentile in the head = 1",
            color="white",
        )
    figure.supxlabel(
        "Synthetic image: research use only, not for diagnosis. "
        "T1 and real FLAIR: Lesjak et al. 2016, CC BY 4.0.",
        color="white",
        fontsize=9,
    )
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def figuresAgainst(real: np.ndarray, candidate: np.ndarray) -> str:
    """SSIM, PSNR and MAE over the head; images on the scale where its 99.5th percentile is 1."""
    mask = head_mask(real)
    ssim = float(metrics.ssim_map(candidate, real)[mask].mean())
    psnr = metrics.psnr(metrics.mean_squared_error(candidate, real, mask))
    mae = metrics.mean_absolute_error(candidate, real, mask)
    return f"SSIM {ssim:.3f}   PSNR {psnr:4.1f} dB   MAE {mae:.3f}"


def report(job: TranslationJob, images: dict[str, sitk.Image], out: Path) -> None:
    how = job.provenance
    arrays = {name: sitk.GetArrayFromImage(image) for name, image in images.items()}
    real = arrays[FLAIR]
    print(f"Device {how['device']}, {how['steps']} steps, {how['samples']} samples, ", end="")
    print(f"seed {how['seed']}: {job.elapsed_s:.0f} s from the click to the volume.")
    print("Against the real FLAIR, in the head, 99.5th percentile = 1:")
    mask = head_mask(real)
    for label, name in (("synthetic FLAIR ", SYNTHETIC), ("the T1 unchanged", T1)):
        gain = metrics.best_gain(arrays[name][mask], real[mask])
        print(f"  {label}   {figuresAgainst(real, arrays[name])}")
        print(f"    after one gain   {figuresAgainst(real, gain * arrays[name])}")
    for name in ("translated.nrrd", "uncertainty.nrrd", "scene.mrb", "comparison.png"):
        print(out / name)
    print("Synthetic images: research use only, not for diagnosis.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        main()
    except MIDiffusionError as error:
        sys.exit(f"error: {error}")
