"""Step `units`: model units to the units of the target, float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .case import Case


@dataclass(frozen=True)
class Units:
    """Hounsfield units for CT; for MR the 99.5th percentile inside the head nominally 1000."""

    name: ClassVar[str] = "units"
    releases: ClassVar[tuple[str, ...]] = ("stacks", "look")

    def applies(self, case: Case) -> bool:
        return True

    def run(self, case: Case) -> dict[str, Any]:
        assert case.result is not None
        intensity = case.model.intensity
        case.result = intensity.inverse(case.result)
        air = float(intensity.inverse(np.zeros(1, np.float32))[0])
        for name in ("spread", "deviation"):
            values = getattr(case, name)
            if values is not None:
                setattr(case, name, intensity.inverse(values) - np.float32(air))
        return {"air": air}
