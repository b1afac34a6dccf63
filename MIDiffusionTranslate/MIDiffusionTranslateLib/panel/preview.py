"""A slice as a picture in the panel."""

from __future__ import annotations

import numpy as np
import qt


def greyMap(image: np.ndarray) -> bytes:
    """`image` float [H, W] as a binary PGM file, from 0 (or its minimum) to its 99.5th percentile.

    Qt reads the format by itself; it needs no file and no conversion through VTK. No byte is zero,
    so that nothing on the way can take one for the end of a text.
    """
    low = min(0.0, float(np.nanmin(image)))
    high = float(np.nanpercentile(image, 99.5))
    scaled = (np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6)
    grey = np.round(1 + 254 * np.clip(scaled, 0.0, 1.0)).astype(np.uint8)
    height, width = grey.shape
    return b"P5\n%d %d\n255\n" % (width, height) + grey.tobytes()


def pixmapOf(image: np.ndarray, pixels: int) -> qt.QPixmap:
    """`image` float [H, W] as a QPixmap whose longer side has `pixels` screen pixels."""
    pixmap = qt.QPixmap()
    pixmap.loadFromData(greyMap(image))
    return pixmap.scaled(pixels, pixels, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation)
