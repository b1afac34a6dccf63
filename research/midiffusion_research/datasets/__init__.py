"""The collections that the table can be filled for."""

from __future__ import annotations

import importlib
from typing import cast

from midiffusion.errors import InvalidParameter

from .subject import Dataset, Subject

# By the name that --dataset takes; a data set is a module with the members of `Dataset`.
_MODULES = {
    "tcga-lgg": "tcga_lgg",
    "synthrad2023-brain": "synthrad2023_brain",
    "openms-wholehead": "openms_wholehead",
    "kaggle-3m": "kaggle_3m",
    "synthrad2023-nifti": "synthrad2023_nifti",
    "ixi": "ixi",
    "curious": "curious",
    "gold-atlas": "gold_atlas",
    "pairs": "pairs",
}
DATASETS = tuple(_MODULES)

__all__ = ["DATASETS", "Dataset", "Subject", "dataset"]


def dataset(name: str) -> Dataset:
    """The data set of this name; raises InvalidParameter naming those there are."""
    if name not in _MODULES:
        raise InvalidParameter(f"Unknown data set '{name}'; choose from {', '.join(DATASETS)}.")
    return cast(Dataset, importlib.import_module(f"{__name__}.{_MODULES[name]}"))
