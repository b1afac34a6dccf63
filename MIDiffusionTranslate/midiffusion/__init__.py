"""MIDiffusion: zero-shot translation of medical volumes by LMI-steered score-based diffusion.

`midiffusion.load_model("flair").translate(volume)` is the whole public path; the names below are
imported on first use, so that listing models or reading a card never imports torch.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "load_model": "pipeline.target",
    "TargetModel": "pipeline.target",
    "TranslationOptions": "pipeline.options",
    "Translation": "pipeline.translate",
    "Volume": "images.volume",
    "read_volume": "images.io",
    "write_volume": "images.io",
    "MIDiffusionError": "errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
