"""Step `views`: renderings of the source whose results are averaged.

A zero-shot model must give the same answer whatever the source's contrast. So the source is shown
to it several times: as it is, mirrored, and with other contrasts; of an isotropic volume in several
planes. The mean is the result, the spread the error map (step `mean`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .case import Case, View
from .options import MOST_VIEWS


@dataclass(frozen=True)
class Views:
    """brighter, darker: exponents of the intensities of two of the views."""

    brighter: float = 0.7
    darker: float = 1.4

    name: ClassVar[str] = "views"
    releases: ClassVar[tuple[str, ...]] = ()

    def applies(self, case: Case) -> bool:
        return True

    def run(self, case: Case) -> dict[str, Any]:
        assert case.stacks is not None
        last = len(case.stacks) - 1
        views = (
            View(0, mirrored=case.options.views == MOST_VIEWS),
            View(min(1, last), self.brighter),
            View(min(2, last), self.darker),
        )
        case.views = views[: case.options.views]
        return {"count": case.options.views}
