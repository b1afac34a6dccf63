"""Draws the icons from their sources: `python Resources/make_icons.py`.

MIDiffusion.svg becomes MIDiffusion.png (extension) and the module's icon; the sample volumes become
the thumbnails of the Sample Data module. Needs PySide6 and SimpleITK.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import SimpleITK
from PySide6 import QtCore, QtGui, QtSvg

ROOT = Path(__file__).resolve().parents[1]
ICONS = ROOT / "MIDiffusionTranslate" / "Resources" / "Icons"
SAMPLES = {
    "MIDiffusionHeadT1": "openms_long19_T1W.nii.gz",
    "MIDiffusionHeadFLAIR": "openms_long19_FLAIR.nii.gz",
}


def draw_icon(target: Path, pixels: int = 128) -> None:
    image = QtGui.QImage(pixels, pixels, QtGui.QImage.Format.Format_ARGB32)
    image.fill(QtCore.Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(image)
    QtSvg.QSvgRenderer(str(ROOT / "Resources" / "MIDiffusion.svg")).render(painter)
    painter.end()
    image.save(str(target))


def draw_thumbnail(source: Path, target: Path, width: int = 260, height: int = 280) -> None:
    """The middle slice of a volume, on black."""
    volume = SimpleITK.ReadImage(str(source))
    data = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(volume, "LPS")).astype(float)
    slice_ = data[data.shape[0] // 2]
    grey = np.clip(255 * slice_ / np.percentile(slice_, 99.5), 0, 255).astype(np.uint8)
    rows, columns = grey.shape
    grey_format = QtGui.QImage.Format.Format_Grayscale8
    pixels = np.ascontiguousarray(grey)
    picture = QtGui.QImage(pixels.data, columns, rows, columns, grey_format)
    canvas = QtGui.QImage(width, height, QtGui.QImage.Format.Format_RGB32)
    canvas.fill(QtCore.Qt.GlobalColor.black)
    scaled = picture.scaled(
        width,
        height,
        QtCore.Qt.AspectRatioMode.KeepAspectRatio,
        QtCore.Qt.TransformationMode.SmoothTransformation,
    )
    painter = QtGui.QPainter(canvas)
    painter.drawImage((width - scaled.width()) // 2, (height - scaled.height()) // 2, scaled)
    painter.end()
    canvas.convertToFormat(grey_format).save(str(target))


def main() -> None:
    application = QtGui.QGuiApplication([])
    ICONS.mkdir(parents=True, exist_ok=True)
    draw_icon(ROOT / "MIDiffusion.png")
    shutil.copyfile(ROOT / "MIDiffusion.png", ICONS / "MIDiffusionTranslate.png")
    for name, file in SAMPLES.items():
        draw_thumbnail(ROOT / "Resources" / "SampleData" / file, ICONS / f"{name}.png")
    del application


if __name__ == "__main__":
    main()
