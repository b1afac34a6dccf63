"""A target model and what it is for: `load_model("flair").translate(volume)`."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import __version__
from .agreement import agreement_slices
from .batching import SliceBatches
from .bundle import lmi_settings, network_config, read_bundle
from .card import ModelCard
from .contrast import nearer_contrast
from .denoiser import Denoiser
from .detail import (
    LAST_SIGMA,
    PLAIN_STEPS,
    WINDOW_CT_MM,
    WINDOW_MM,
    guides,
    in_layers,
    layer_shares,
    local_fit,
)
from .device import choose_device, describe, memory_state
from .errors import InvalidParameter, OutOfMemory, UnlikelySource
from .familiarity import Familiar
from .grid import SliceGrid
from .head import grow, head_of
from .intensity import HounsfieldIntensity, head_mask, intensity_map
from .memory import is_shortage
from .noise import VESDE, Schedule, geometric_sigmas
from .precision import network_dtype
from .samplers import SAMPLERS
from .sampling import OnStep, Plan, Told, draw_samples, reproducible
from .skull import brain_alone, surely_no_skull
from .source import Source
from .source_noise import VERY_NOISY
from .volume import Volume

__all__ = ["Translation", "TranslationModel", "load_model"]


@dataclass(frozen=True)
class Translation:
    """A translated volume on the source's grid; the standard deviation of its samples, in the same
    units, if there were at least two; how it came about (JSON types only); and, where it was asked
    for, its agreement with the source, 0 to 1 (see `agreement`)."""

    volume: Volume
    uncertainty: Volume | None
    provenance: dict[str, Any]
    agreement: Volume | None = None


class TranslationModel:
    """A denoiser of one target modality with its card.

    The denoiser is put into evaluation mode and moved to the device of each translation. Raises
    InvalidCard if the card's parts don't describe a model.

    schedule: of the noise levels; another is set by who measures it.
    """

    schedule: Schedule = staticmethod(geometric_sigmas)

    def __init__(self, card: ModelCard, denoiser: Denoiser) -> None:
        self.card = card
        self.denoiser = denoiser.eval()
        self._intensity = intensity_map(card.intensity)
        self._lmi = lmi_settings(card)
        self._multiple = network_config(card).multiple
        self._familiar = None if card.familiar is None else Familiar.from_dict(card.familiar)

    def translate(
        self,
        volume: Volume,
        *,
        steps: int | None = None,
        seed: int = 0,
        samples: int = 1,
        sampler: str | None = None,
        device: str = "auto",
        on_step: OnStep | None = None,
        agreement: bool = False,
        detail: bool = True,
    ) -> Translation:
        """The volume as the target modality would show it (synthetic: not for diagnosis).

        volume: any modality and geometry, see `Volume.check`; an MR loses its noise first, where
        that is more than a little (`source_noise`; the provenance's `sourceNoise`). steps: network
        evaluations per slice and sample (heun rounds down to an odd number). seed: same seed, same
        result, whatever the batch size. samples: how many to average; from two on with their
        standard deviation. sampler: a name of `samplers.SAMPLERS`. steps and sampler default to the
        card's. on_step is called after every batch of slices; what it raises ends the run.
        agreement: whether to compare the result with the source, which takes about as long as three
        steps on a CPU; the median inside the head is the provenance's `agreement`. detail: whether
        the result takes its detail from the source (see `detail`); without, it is what the network
        makes of the LMI maps, on its own larger pixels and down to the card's sigma_min, in 8 steps
        by default.

        The result is float32 on exactly the source's grid, in HU for CT, and for MR with the 99.5th
        percentile inside the head nominally at 1000. A brain without its skull is brought to 750,
        which most heads have (the provenance's `gain`), and in CT gets no bone (`boneTakenOut`). A
        source unlike anything the model can serve is translated all the same, with the warning
        UnlikelySource, whose sentence is the provenance's `warning`. Raises InvalidVolume,
        InvalidParameter, DeviceUnavailable and OutOfMemory.
        """
        plan = self._plan(steps, seed, samples, sampler, detail)
        volume.check()
        place = choose_device(device)
        started = time.monotonic()
        grid = SliceGrid.of(volume, self.card.pixel_mm, self.card.orientation, self._multiple)
        between = volume.spacing_mm[::-1][grid.order[0]]
        plan = replace(plan, gap=between / self.card.pixel_mm)
        told = None if on_step is None else Told(on_step)
        agreed = None
        try:
            source = Source.of(volume)
            slices = source.slices(grid, self.card.pixel_mm, place)
            shown = self.shown(slices, source.is_ct)
            head = head_mask(source.units) if agreement else None
            window_mm = self.window_mm(source.is_ct) if detail else None
            known = self._doubts(slices, source.noise)
            alone = brain_alone(
                slices,
                grid.rows.inside,
                grid.columns.inside,
                self.card.pixel_mm,
                is_ct=source.is_ct,
            )
            no_skull = self.makes_ct and surely_no_skull(alone, slices, self.card.pixel_mm, between)
            plain = torch.zeros_like(slices) if agreement else None
            mean, deviation = self._mean_and_deviation(
                slices, shown, grid, plan, told, source.units, window_mm, no_skull, plain
            )
            if plain is not None:
                agreed = self._agreement(shown, plain, grid, told)
        except (RuntimeError, MemoryError) as failure:
            if not is_shortage(failure):
                raise
            count, height, width = grid.shape
            raise OutOfMemory(
                f"The volume's {count} slices of {height} x {width} pixels don't fit into the "
                f"memory of {memory_state(place)}: crop the volume or choose another device."
            ) from failure
        gain = self._intensity.gain(mean, alone)
        if gain != 1:
            mean *= np.float32(gain)
            if deviation is not None:
                deviation *= np.float32(gain)
        noise = source.noise
        del source, slices, shown, plain  # as large as the results that are still to be made
        provenance = {
            "model": self.card.id,
            "weightsSHA256": self.card.weights_sha256,
            "version": __version__,
            "steps": plan.evaluations,
            "seed": seed,
            "samples": samples,
            "sampler": plan.sampler.name,
            "device": describe(place),
            "precision": str(network_dtype(place)).removeprefix("torch."),
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - started, 2),
            "sourceModality": volume.modality,
            "sourceNoise": None if noise is None else round(noise, 3),
            "detailMm": window_mm,
            "gain": round(gain, 3),
            "synthetic": 1,
            **known,
        }
        if no_skull:
            provenance["boneTakenOut"] = 1
        if agreed is not None:
            inside = agreed[head]
            provenance["agreement"] = round(float(np.median(inside)), 3) if inside.size else None
        return Translation(
            self._as_output(self._intensity.inverse(mean), volume),
            None if deviation is None else self._as_output(self._spread(deviation), volume),
            provenance,
            None if agreed is None else Volume(agreed, volume.ijkToRAS.copy()),
        )

    def _doubts(self, slices: Tensor, noise: float | None) -> dict[str, Any]:
        """What the provenance says of them; warns where the source is unlike the training images,
        or was very noisy."""
        said: dict[str, Any] = {}
        problem = None
        if self._familiar is not None:
            judged = self._familiar.judge(slices[:, 0].cpu().numpy(), self.card.pixel_mm)
            distance, problem = judged.distance, judged.problem
            said["sourceDistance"] = None if np.isnan(distance) else round(distance, 3)
        if problem is None and noise is not None and noise > VERY_NOISY:
            problem = (
                f"The source is very noisy (by {100 * noise:.0f} % of its brightest tissue): fine "
                "structure in the result is not to be relied on."
            )
        if problem is not None:
            warnings.warn(problem, UnlikelySource, stacklevel=2)
            said["warning"] = problem
        return said

    def default_steps(self, detail: bool) -> int:
        """Network evaluations of a translation with or without detail, unless told otherwise."""
        steps = self.card.default_steps
        return steps if detail else max(steps, PLAIN_STEPS)

    def sde(self, detail: bool) -> VESDE:
        """The noise levels that a translation with or without detail runs through."""
        low, high = self.card.sigma_min, self.card.sigma_max
        return VESDE(max(low, LAST_SIGMA) if detail and high > LAST_SIGMA else low, high)

    def _plan(
        self, steps: int | None, seed: int, samples: int, sampler: str | None, detail: bool
    ) -> Plan:
        steps = self.default_steps(detail) if steps is None else steps
        sampler = self.card.default_sampler if sampler is None else sampler
        for name, value, least in (("steps", steps, 1), ("samples", samples, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidParameter(
                    f"{name} is {value!r}: it must be a whole number of at least {least}."
                )
        if sampler not in SAMPLERS:
            raise InvalidParameter(
                f"Unknown sampler {sampler!r}: use one of {', '.join(SAMPLERS)}."
            )
        chosen = SAMPLERS[sampler]
        levels, own_steps = self.sde(detail), chosen.steps(steps)
        return Plan(
            chosen,
            own_steps,
            levels,
            seed,
            samples,
            absolute=self.makes_ct,
            schedule=self.schedule,
        )

    def window_mm(self, source_is_ct: bool) -> float:
        """Width of the neighbourhood in which the result follows such a source."""
        return WINDOW_CT_MM if self.makes_ct or source_is_ct else WINDOW_MM

    def shown(self, slices: Tensor, source_is_ct: bool) -> Tensor:
        """What LMI maps are made of: like the slices of a `Source`."""
        return nearer_contrast(
            slices, self.card.pixel_mm, source_is_ct=source_is_ct, target_is_ct=self.makes_ct
        )

    @property
    def makes_ct(self) -> bool:
        """Whether the target is in Hounsfield units."""
        return isinstance(self._intensity, HounsfieldIntensity)

    def _mean_and_deviation(
        self,
        slices: Tensor,
        shown: Tensor,
        grid: SliceGrid,
        plan: Plan,
        on_step: OnStep | None,
        units: np.ndarray,
        window_mm: float | None,
        no_skull: bool,
        plain: Tensor | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Of the samples, the deviation from two on: [k, j, i], model units, on the source grid.
        They get their detail from `units`, the source [k, j, i] in model units, if window_mm, and
        lose what bone they have if no_skull; their mean without either is added to `plain`, which
        is like `slices`, as `shown` is."""
        network = self.denoiser.to(slices.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batches = SliceBatches(slices.device)
        # Where the source shows nothing, but for a rim of a pixel, there is air.
        rim = batches.map(len(slices), lambda part: grow(head_of(slices[part].cpu()), 1)[:, 0] > 0)
        inside_head = rim.numpy()
        shares = None
        if window_mm is not None and in_layers(window_mm):
            place, pixel_mm = (grid.rows.inside, grid.columns.inside), self.card.pixel_mm
            shares = layer_shares(slices.cpu(), *place, pixel_mm).to(slices.device)
        mean: np.ndarray | None = None
        squares = np.zeros(grid.source_shape, np.float32) if plan.samples > 1 else None
        with reproducible():
            dtype = network_dtype(slices.device)
            drawn = draw_samples(self.denoiser, self._lmi, shown, plan, on_step, dtype=dtype)
            for count, x in enumerate(drawn, start=1):
                if plain is not None:
                    plain.add_(x, alpha=1 / plan.samples)
                if window_mm is None:
                    value = grid.to_volume(x[:, 0].cpu().numpy() * inside_head)
                else:
                    sigma = window_mm / self.card.pixel_mm
                    fitted = local_fit(x[:, 0], slices[:, 0], shares, sigma, plan.gap)
                    weights = (one for some in fitted for one in some.cpu().numpy())
                    inside = (one * mask for one, mask in zip(weights, inside_head, strict=True))
                    value = grid.sum_to_volume(inside, guides, units)
                np.maximum(value, 0, out=value)
                if no_skull:
                    self._intensity.take_bone_out(value)
                if mean is None or squares is None:
                    mean = value
                    continue
                # Plane by plane: another volume or two would be the most that a run takes.
                for plane, so_far, square in zip(value, mean, squares, strict=True):
                    difference = plane - so_far
                    so_far += difference / count  # Welford's recurrence: nothing cancels
                    square += difference * (plane - so_far)
        assert mean is not None  # a sample at least
        return mean, None if squares is None else np.sqrt(squares / (plan.samples - 1))

    def _agreement(
        self, shown: Tensor, plain: Tensor, grid: SliceGrid, told: Told | None
    ) -> np.ndarray:
        """Of `plain`, the network's own result, with the source's slices: [k, j, i], 0 to 1. (What
        has its detail from the source agrees with it in any case.)"""
        again = None if told is None else told.again
        with reproducible():
            found = agreement_slices(shown, plain.clamp_(min=0), self._lmi, again)
        volume = grid.to_volume(found[:, 0].cpu().numpy())
        return np.clip(volume, 0, 1, out=volume)  # cubic resampling swings beyond both

    def _spread(self, deviation: np.ndarray) -> np.ndarray:
        """A difference of model units in output units: the inverse map without its offset."""
        return self._intensity.inverse(deviation) - self._intensity.inverse(np.float32(0))

    def _as_output(self, data: np.ndarray, source: Volume) -> Volume:
        return Volume(data, source.ijkToRAS.copy(), self.card.target_modality)


def load_model(
    id_or_folder: str | Path, model_folder: str | Path | None = None
) -> TranslationModel:
    """A model by its id or from its folder, on the CPU. Raises what `read_bundle` raises."""
    return TranslationModel(*read_bundle(id_or_folder, model_folder))
