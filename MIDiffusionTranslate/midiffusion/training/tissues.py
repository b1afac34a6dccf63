"""Tissues of a head: relaxation times, proton density, Hounsfield units, and the signal equations.

`tissues.csv` has one row for each code of a label map. Relaxation times are those at 1.5 T: grey
and white matter and fluid from BrainWeb (Kwan et al., IEEE TMI 1999), the others estimates.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InvalidData

TABLE = Path(__file__).with_name("tissues.csv")
FLUID_T1_MS = 2569.0  # cerebrospinal fluid
_COLUMNS = ("t1_ms", "t2_ms", "proton_density", "ct_hu")


@dataclass(frozen=True)
class TissueTable:
    """Properties of tissues by code, 0 to count - 1; code 0 is air.

    Args:
        names: tissue of each code; codes of one name (left and right) share their contrast.
        freesurfer: FreeSurfer label of each code, -1 where there is none.
        intracranial: whether each code remains after brain extraction, bool [count].
        mixes_with: code of the tissue that each code passes into, [count].
        t1_ms, t2_ms, proton_density, ct_hu: float32 [count].
    """

    names: tuple[str, ...]
    freesurfer: tuple[int, ...]
    intracranial: Tensor
    mixes_with: Tensor
    t1_ms: Tensor
    t2_ms: Tensor
    proton_density: Tensor
    ct_hu: Tensor

    @classmethod
    def read(cls, path: Path = TABLE) -> TissueTable:
        """Read a tissue table (CSV, columns as in `tissues.csv`).

        Raises:
            InvalidData: codes are not 0 to count - 1, or a column is missing.
        """
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        try:
            if [int(row["code"]) for row in rows] != list(range(len(rows))):
                raise InvalidData(f"{path}: the codes must be 0, 1, 2, ... in order.")
            names = tuple(row["tissue"] for row in rows)
            values = {name: torch.tensor([float(r[name]) for r in rows]) for name in _COLUMNS}
            return cls(
                names,
                tuple(int(row["freesurfer_label"] or -1) for row in rows),
                torch.tensor([row["region"] == "intracranial" for row in rows]),
                torch.tensor([names.index(row["mixes_with"]) for row in rows]),
                **values,
            )
        except (KeyError, ValueError) as error:
            raise InvalidData(f"{path} is not a tissue table: {error}.") from error

    def code(self, name: str) -> int:
        """The first code of a tissue."""
        return self.names.index(name)

    def codes(self, *names: str) -> Tensor:
        """All codes of some tissues, int64 [n]."""
        return torch.tensor([code for code, name in enumerate(self.names) if name in names])

    @cached_property
    def group(self) -> Tensor:
        """The first code with the same name, for each code: int64 [count]."""
        return torch.tensor([self.names.index(name) for name in self.names])


def spin_echo(t1: Tensor, t2: Tensor, pd: Tensor, tr: Tensor, te: Tensor) -> Tensor:
    """PD (1 - exp(-TR / T1)) exp(-TE / T2); times in ms, T1 = 0 (air) gives 0."""
    return pd * (1 - torch.exp(-tr / t1.clamp_min(1))) * torch.exp(-te / t2.clamp_min(1))


def inversion_recovery(
    t1: Tensor, t2: Tensor, pd: Tensor, tr: Tensor, te: Tensor, ti: Tensor
) -> Tensor:
    """PD |1 - 2 exp(-TI / T1) + exp(-TR / T1)| exp(-TE / T2); times in ms."""
    t1 = t1.clamp_min(1)
    recovered = 1 - 2 * torch.exp(-ti / t1) + torch.exp(-tr / t1)
    return pd * recovered.abs() * torch.exp(-te / t2.clamp_min(1))


def fluid_null_ms(tr: Tensor) -> Tensor:
    """Inversion time at which cerebrospinal fluid has no signal: T1 ln(2 / (1 + exp(-TR / T1)))."""
    return FLUID_T1_MS * torch.log(2 / (1 + torch.exp(-tr / FLUID_T1_MS)))


Signal = Callable[[Tensor, Tensor, Tensor, Callable[[float, float], Tensor]], Tensor]


def _t1(t1: Tensor, t2: Tensor, pd: Tensor, draw: Callable[[float, float], Tensor]) -> Tensor:
    return spin_echo(t1, t2, pd, draw(450, 700), draw(8, 14))


def _t1_inversion(
    t1: Tensor, t2: Tensor, pd: Tensor, draw: Callable[[float, float], Tensor]
) -> Tensor:
    signal = inversion_recovery(t1, t2, pd, draw(1800, 2500), draw(2, 4), draw(800, 1000))
    # The magnitude of fluid before its null: gradient-echo readouts show it darker.
    return torch.where(t1 > 1800, 0.3 * signal, signal)


def _t2(t1: Tensor, t2: Tensor, pd: Tensor, draw: Callable[[float, float], Tensor]) -> Tensor:
    return spin_echo(t1, t2, pd, draw(3500, 7000), draw(80, 110))


def _pd(t1: Tensor, t2: Tensor, pd: Tensor, draw: Callable[[float, float], Tensor]) -> Tensor:
    return spin_echo(t1, t2, pd, draw(2200, 4500), draw(10, 25))


def _flair(t1: Tensor, t2: Tensor, pd: Tensor, draw: Callable[[float, float], Tensor]) -> Tensor:
    tr = draw(8000, 10000)
    return inversion_recovery(t1, t2, pd, tr, draw(90, 130), fluid_null_ms(tr))


SIGNALS: dict[str, Signal] = {
    "t1": _t1,
    "t1_inversion": _t1_inversion,
    "t2": _t2,
    "pd": _pd,
    "flair": _flair,
}
"""Signal of each sequence, `signal(t1_ms, t2_ms, proton_density, draw)`; `draw(low, high)` gives
the sequence's times in ms, in a shape that broadcasts against the tissues."""
