"""The panel's sentences on models, durations and progress. Plain functions: no Qt, no scene."""

from __future__ import annotations

import html
from collections.abc import Sequence

from midiffusion.errors import Cancelled
from midiffusion.models.card import ModelCard
from slicer.i18n import tr as _

from ..worker.events import WorkerProgress
from .interfaces import Job


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


def estimateText(estimated: dict[str, float]) -> str:
    """How long a run will take; `estimated` as `Durations.estimate` returns it."""
    if not estimated:
        return _("unknown until the first run on this computer")
    if "" in estimated:
        return _("about {duration}, from earlier runs").format(duration=durationText(estimated[""]))
    return "; ".join(
        _("about {duration} on {device}").format(duration=durationText(seconds), device=device)
        for device, seconds in estimated.items()
    )


def modelTitle(card: ModelCard) -> str:
    """The model in the list of targets; restricted ones are marked."""
    return (
        _("{title} (non-commercial)").format(title=card.title)
        if card.non_commercial
        else (card.title)
    )


def cardText(card: ModelCard) -> str:
    """The card in one or two lines of rich text."""
    use = _("For: {anatomy}, {view}.").format(anatomy=card.anatomy, view=card.field_of_view)
    text = html.escape(use)
    if card.non_commercial:
        licence = _("Non-commercial use only ({licence}).").format(licence=card.weights_licence)
        text += f" <b>{html.escape(licence)}</b>"
    return text


def cardDetails(card: ModelCard) -> str:
    """The card at length, for a tool tip: use, limits, training, figures."""
    lines = [
        f"<b>{html.escape(card.title)}</b>",
        html.escape(card.intended_use),
        _("Licence of the weights: {licence}").format(licence=html.escape(card.weights_licence)),
        _("Pixels of {pixel:.3g} mm.").format(pixel=card.pixel_mm),
        *(html.escape(limit) for limit in card.limits),
    ]
    if "data" in card.training:
        data = html.escape(str(card.training["data"]))
        lines.append(_("Trained on: {data}").format(data=data))
    times = "; ".join(f"{device} {s:g} s" for device, s in card.seconds_per_slice.items())
    if times:
        lines.append(_("Measured for one slice: {times}").format(times=html.escape(times)))
    return "<p>" + "</p><p>".join(lines) + "</p>"


def progressText(progress: WorkerProgress) -> str:
    """One line on where a run stands."""
    parts = [
        _("Step {step} of {of}").format(step=progress.step, of=progress.of),
        _("slice {done} of {slices}").format(done=progress.slices_done, slices=progress.slices),
    ]
    if progress.eta_s is not None:
        parts.append(_("{duration} left").format(duration=durationText(progress.eta_s)))
    return ", ".join(parts)


def deviceText(progress: WorkerProgress) -> str:
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
        return str(job.error)
    duration = durationText(job.elapsed_s)
    sentences = [
        _("Done in {duration}: '{name}'.").format(duration=duration, name=job.node.GetName())
    ]
    if job.typicalError is not None:
        isCT = job.node.GetAttribute("MIDiffusion.modality") == "CT"
        sentences.append(errorText(job.typicalError, isCT))
    if job.deviationNode is not None:
        sentences.append(_("Deviation: '{name}'.").format(name=job.deviationNode.GetName()))
    sentences.append(_("The image is synthetic: research use only, not for diagnosis."))
    return " ".join(sentences)


def errorText(error: float, isCT: bool) -> str:
    """The typical expected error with its scale in words."""
    if isCT:
        return _("Expected error inside the head: typically {error:.0f} HU.").format(error=error)
    return _(
        "Expected error inside the head: typically {percent:.0f} % of the brightest tissue."
    ).format(percent=error / 10)


def warningText(warnings: Sequence[str]) -> str:
    """Warnings as rich text, in a colour that can be read on light and dark panels."""
    lines = "<br>".join(html.escape(warning) for warning in warnings)
    return f'<span style="color:#d9730d"><b>{_("Warning:")}</b> {lines}</span>' if lines else ""


def deviceLabel(device: str) -> str:
    """The words of a choice of device."""
    return {
        "auto": _("Automatic (the GPU if there is one)"),
        "cpu": _("Processor (CPU)"),
        "cuda": _("NVIDIA GPU (CUDA)"),
        "mps": _("Apple GPU (MPS)"),
    }[device]
