"""The sample data that comes with the extension, and its entries in the Sample Data module."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

CATEGORY = "MIDiffusion"
# Sample, node name, file, SHA-256.
SAMPLES = (
    (
        "MIDiffusionHeadT1",
        "Head T1",
        "openms_long19_T1W.nii.gz",
        "c45a4031d025c5a882755b57a3251b238638d9d2d62067a5224d17ba6fc5b461",
    ),
    (
        "MIDiffusionHeadFLAIR",
        "Head FLAIR",
        "openms_long19_FLAIR.nii.gz",
        "048eb0c57be36e9d68fb83a4bb7036ca054e195587e7f7cc9a273a30db17c547",
    ),
)


def sampleFolder() -> Path | None:
    """Where the sample data are: in the source tree, or where the extension installs them."""
    module = Path(__file__).resolve().parents[2]
    # Beside the module's folder in the source tree; in the module's own Resources as CMake puts it.
    candidates = [folder / "Resources" / "SampleData" for folder in (module.parent, module)]
    return next((folder for folder in candidates if folder.is_dir()), None)


def registerSampleData() -> None:
    """Adds the volumes to the Sample Data module, from the extension's own files."""
    import SampleData  # type: ignore[import-not-found]

    folder = sampleFolder()
    if folder is None:
        return
    icons = Path(__file__).resolve().parents[2] / "Resources" / "Icons"
    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("MIDiffusion"))
    for sample, node, file, digest in SAMPLES:
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample,
            thumbnailFileName=str(icons / f"{sample}.png"),
            uris=(folder / file).as_uri(),
            fileNames=file,
            nodeNames=node,
            checksums=f"SHA256:{digest}",
        )


def loadSample() -> Any:
    """The sample head as a volume node, shown in the views; None if it can't be loaded."""
    import slicer

    try:
        node = smallSample(every=1)
    except (AssertionError, RuntimeError, ImportError):
        logging.exception("MIDiffusion: the sample head could not be loaded")
        return None
    node.SetName("Head T1")
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def smallSample(every: int = 4, contrast: str = "T1W") -> Any:
    """The sample T1 (or FLAIR) with one voxel in `every` along each axis, as a new volume."""
    import SimpleITK
    import slicer

    folder = sampleFolder()
    assert folder is not None, "the sample data are not installed"
    image = SimpleITK.ReadImage(str(folder / f"openms_long19_{contrast}.nii.gz"))
    image = image[::every, ::every, ::every]
    toRAS = np.diag([-1.0, -1.0, 1.0, 1.0])
    axes = np.eye(4)
    axes[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    axes[:3, 3] = image.GetOrigin()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"Small {contrast}")
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(toRAS @ axes))
    slicer.util.updateVolumeFromArray(node, SimpleITK.GetArrayFromImage(image).astype(np.float32))
    return node
