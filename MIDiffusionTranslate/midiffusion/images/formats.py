"""Which files are volumes, by their names. Needs neither numpy nor SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path

NIFTI = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
FREESURFER = (".mgz", ".mgh")

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
"""What is written."""
READ_ENDINGS = (*NIFTI, *ITK, *FREESURFER)
"""What is read, beside folders of DICOM files."""

_RESULT = re.compile(r"_(desc-)?synthetic[a-z0-9]*[-_][^.]*\.")  # as results of a cohort are named


def ending(name: str, endings: tuple[str, ...] = READ_ENDINGS) -> str:
    """The longest of `endings` that a file's name has, in lower case, or ""."""
    found = [e for e in endings if name.lower().endswith(e) and len(name) > len(e)]
    return max(found, key=len, default="")


def volume_files(folder: Path) -> list[Path]:
    """The volumes of a folder by name: files with one of `READ_ENDINGS`, without hidden ones (also
    those that macOS and an interrupted run leave behind) and without results of this program.

    Of a pair of .hdr and .img the header stands for both.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    found = []
    for name in sorted(names):
        if name.startswith(".") or not ending(name) or _RESULT.search(name.lower()):
            continue
        stem = name[: len(name) - len(ending(name))]
        if ending(name).startswith(".img") and {stem + e for e in (".hdr", ".hdr.gz")} & names:
            continue
        found.append(folder / name)
    return found
