"""Step `scale`: any modality to model units, [0, 1.25] with air at 0."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import UnlikelySource
from ..images.intensity import SourceIntensity
from ..images.recognition import recognise
from .case import Case


@dataclass(frozen=True)
class Scale:
    """See `recognise` and `SourceIntensity`: a robust scale for MR, a fixed window for CT."""

    name: ClassVar[str] = "scale"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return True

    def run(self, case: Case) -> dict[str, Any]:
        found = recognise(case.source, case.options.source)
        case.source_is_ct = found.kind == "CT"
        case.units, unit = SourceIntensity().forward(found.values, found.kind, found.air)
        sentences = [*case.source.notes, *filter(None, [found.warning])]
        if sentences:
            case.warning = " ".join(sentences)
            warnings.warn(case.warning, UnlikelySource, stacklevel=2)
        return {"source_taken_as": found.kind, "hu_offset": found.hu_offset, "unit": float(unit)}
