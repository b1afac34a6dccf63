"""The options of one translation: command line, Slicer, batch and Python share them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..errors import InvalidParameter

SOURCE_KINDS = ("auto", "mr", "ct")
MOST_VIEWS = 4


@dataclass(frozen=True)
class TranslationOptions:
    """How to translate.

    Args:
        views: renderings of the source whose results are averaged, 1 to 4; from two on the result
            has an error map.
        steps: network evaluations per slice and sample: 1 gives the mean of what is likely, from 2
            on samples are drawn by diffusion.
        samples: samples to average; from two on with their standard deviation.
        seed: of the noise. Same seed, same result, whatever the batch size.
        sampler: a name of `diffusion.samplers.SAMPLERS`.
        device: "auto", "cpu", "mps", "cuda" or "cuda:<number>".
        source: "mr" or "ct" says what the source is; "auto" recognises Hounsfield units.
        without: names of pipeline steps to leave out.

    Raises:
        InvalidParameter: a value is out of range; the sentence names it.
    """

    views: int = MOST_VIEWS
    steps: int = 1
    samples: int = 1
    seed: int = 0
    sampler: str = "dpmpp_2m"
    device: str = "auto"
    source: str = "auto"
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(self.without))
        for name, least in (("views", 1), ("steps", 1), ("samples", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidParameter(
                    f"{name} is {value!r}: it must be a whole number of at least {least}."
                )
        if self.views > MOST_VIEWS:
            raise InvalidParameter(f"views is {self.views}: there are {MOST_VIEWS} at most.")
        if self.samples > 1 and self.steps < 2:
            raise InvalidParameter(
                f"samples is {self.samples}: one evaluation gives the mean, which has no samples; "
                "set steps to 2 or more (8 gives sharp samples)."
            )
        if self.source not in SOURCE_KINDS:
            raise InvalidParameter(
                f"The source is {self.source!r}: use one of {', '.join(SOURCE_KINDS)}."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TranslationOptions:
        """From JSON; unknown names and None are ignored. Raises InvalidParameter."""
        known = {field.name for field in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known and v is not None})
