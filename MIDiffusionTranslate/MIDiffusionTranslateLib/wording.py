"""The panel's sentences on models, durations and progress. Plain functions: no Qt, no scene."""

from __future__ import annotations

import html
import logging
from typing import Protocol

from midiffusion.card import ModelCard
from midiffusion.errors import Cancelled
from slicer.i18n import tr as _

from .collaborators import Job


class Progress(Protocol):
    """What is read of a job's progress."""

    step: int
    of: int
    slices_done: int
    slices: int
    eta_s: float | None
    device: str
    memory_bytes: int | None


def durationText(seconds: float) -> str:
    """`seconds` in words, as exact as an estimate deserves."""
    if seconds < 1:
        return _("less than a second")
    if seconds < 10:
        return _("{n} s").format(n=round(seconds))
    if seconds < 90:
        return _("{n} s").format(n=5 * round(seconds / 5))
    if seconds < 3600:
        return _("{n} min").format(n=round(seconds / 60))
    hours, minutes = divmod(round(seconds / 60), 60)
    return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)


def estimateText(foretold: dict[str, float]) -> str:
    """How long a run will take; `foretold` as Durations.foretold has it."""
    if not foretold:
        return _("unknown until the first run here")
    here, there = _("about {duration}, by the last runs here"), _("about {duration} on {device}")
    return "; ".join(
        (there if device else here).format(duration=durationText(seconds), device=device)
        for device, seconds in foretold.items()
    )


def cardText(card: ModelCard) -> str:
    """The card in a few lines of rich text."""
    licence = html.escape(card.weights_licence)
    if card.non_commercial:
        licence += " " + _("(non-commercial)")
    lines = (
        (_("Makes"), html.escape(card.target_modality)),
        (_("Expects"), html.escape(f"{card.anatomy}. {card.field_of_view}")),
        (_("Licence"), licence),
    )
    return "<br>".join(f"<b>{title}:</b> {text}" for title, text in lines)


def cardDetails(card: ModelCard) -> str:
    """The card at length, for a tool tip: use, limits, training, figures."""
    times = "; ".join(f"{device} {s:g} s" for device, s in card.seconds_per_slice.items())
    lines = [
        f"<b>{html.escape(card.title)}</b>",
        html.escape(card.intended_use),
        _("Slices: {orientation}, {pixel:g} mm pixels.").format(
            orientation=card.orientation, pixel=card.pixel_mm
        ),
        _("The same weights for any number of steps; {steps} by default.").format(
            steps=card.default_steps
        ),
        *(html.escape(limit) for limit in card.limits),
    ]
    if "data" in card.training:
        data = html.escape(str(card.training["data"]))
        lines.append(_("Trained on: {data}").format(data=data))
    if times:
        lines.append(_("Measured for one slice: {times}").format(times=html.escape(times)))
    return "<p>" + "</p><p>".join(lines) + "</p>"


def licenceQuestion(card: ModelCard) -> str:
    return _(
        "The model '{title}' may be used for non-commercial research only.\n\n"
        "Licence of its weights: {licence}\n\n"
        "Its results are synthetic and not for diagnosis. Do you accept these terms?"
    ).format(title=card.title, licence=card.weights_licence)


def progressText(progress: Progress) -> str:
    """One line on where a run stands."""
    parts = [
        _("Step {step} of {of}").format(step=progress.step, of=progress.of),
        _("slice {done} of {slices}").format(done=progress.slices_done, slices=progress.slices),
    ]
    if progress.eta_s is not None:
        parts.append(_("{duration} left").format(duration=durationText(progress.eta_s)))
    return ", ".join(parts)


def deviceText(progress: Progress) -> str:
    """Where it is computed, and the memory in use there."""
    if progress.memory_bytes is None:
        return _("Computing on {device}").format(device=progress.device)
    return _("Computing on {device}, {gigabytes:.1f} GB in use").format(
        device=progress.device, gigabytes=progress.memory_bytes / 1e9
    )


def endingText(job: Job) -> str:
    """How a job ended, and what to do."""
    if isinstance(job.error, Cancelled):
        return _("Cancelled. Nothing was added to the scene.")
    if job.error is not None:
        logging.error("MIDiffusion: %s", job.error)
        return str(job.error)
    duration = durationText(job.elapsed_s)
    sentences = [
        _("Done in {duration}: '{name}'.").format(duration=duration, name=job.node.GetName())
    ]
    if job.uncertaintyNode is not None:
        sentences.append(
            _("Standard deviation: '{name}'.").format(name=job.uncertaintyNode.GetName())
        )
    sentences.append(_("The image is synthetic: research use only, not for diagnosis."))
    return " ".join([*sentences, *job.warnings])


def deviceLabel(device: str) -> str:
    """The words of a choice of device."""
    return {
        "auto": _("Automatic (the GPU if there is one)"),
        "cpu": _("Processor (CPU)"),
        "cuda": _("NVIDIA GPU (CUDA)"),
        "mps": _("Apple GPU (MPS)"),
    }[device]
