"""The results table of arXiv 2301.13743, to be printed beside ours.

`paper_table.csv` holds its 24 rows as published. Its subjects, slices, resolution and masks are not
known, so the figures are quoted, not repeated. Its column MI lies between 1.03 and 1.19, where only
Studholme's normalised mutual information makes sense: it stands beside ours of that name.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).with_name("paper_table.csv")
_COLLECTIONS = {"gold-atlas": "GoldAtlas", "curious": "CuRIOUS", "ixi": "IXI"}
# The paper says MR of the pelvis, and does not say which.
_MODALITIES = {"gold-atlas": {"T1": "MR", "T2": "MR"}}


@dataclass(frozen=True)
class PaperRow:
    """One row: the method with its regime, and its figures as printed (MSE in squared grey levels
    of 8 bit, PSNR in dB)."""

    method: str
    ssim_target: str
    ssim_source: str
    mse_8bit: str
    mi: str
    psnr_db: str
    fid: str


def paper_rows(dataset: str, direction: str) -> list[PaperRow]:
    """The rows for this data set and "source:target"; empty where the paper has none."""
    renamed = _MODALITIES.get(dataset, {})
    wanted = "→".join(renamed.get(name, name) for name in direction.upper().split(":"))
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return [
            PaperRow(
                f"{row['method']} ({row['regime']})",
                row["ssim_target"],
                row["ssim_source"],
                row["mse_8bit"],
                row["mi"],
                row["psnr_db"],
                row["fid"],
            )
            for row in csv.DictReader(file)
            if (row["dataset"], row["direction"]) == (_COLLECTIONS.get(dataset), wanted)
        ]
