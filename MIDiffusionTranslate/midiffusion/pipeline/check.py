"""Step `check`: refuse a volume that can't be computed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .case import Case


@dataclass(frozen=True)
class Check:
    """See `Volume.check`; raises InvalidVolume."""

    name: ClassVar[str] = "check"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return True

    def run(self, case: Case) -> dict[str, Any]:
        case.source.check(nan_is_air=True)
        return {}
