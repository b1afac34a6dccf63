"""The sample data that comes with the extension, and its entries in the Sample Data module."""

from __future__ import annotations

from pathlib import Path

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
