"""The form of a pipeline step."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from .case import Case


class Step(Protocol):
    """One step: a frozen dataclass whose fields are its parameters, with units in their names.

    name: in the provenance and in `TranslationOptions.without`. releases: attributes of `Case`
    that no later step needs.
    """

    name: ClassVar[str]
    releases: ClassVar[tuple[str, ...]]

    def applies(self, case: Case) -> bool:
        """Whether the step has something to do."""
        ...

    def run(self, case: Case) -> dict[str, Any]:
        """Do it; returns figures for the provenance (JSON types)."""
        ...
