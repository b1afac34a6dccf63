"""The module's logic without its Qt side: translate a volume node, in a worker process."""

from __future__ import annotations

import time
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

import slicer
from midiffusion import memory, registry
from midiffusion.card import ModelCard
from midiffusion.errors import InvalidParameter
from midiffusion.names import is_device
from midiffusion.registry import ModelEntry

from .job import WorkerJob
from .process import Launcher, launchWorker
from .scene import Layer, Place, addLayers, volumeFromNode
from .translationjob import TranslationJob
from .workerreport import WorkerProgress, WorkerResult

_MAX_SEED = 2**63 - 1


class TranslateLogic:
    """Translates volumes of the scene. One object can run several jobs.

    Args:
        launcher: starts the worker of each job.
        temporaryFolder: where volumes are handed over; the system's by default.
    """

    pollInterval_s = 0.02
    silence_s = 300.0  # without a sign of life, after which a worker counts as hanging

    def __init__(
        self, launcher: Launcher = launchWorker, temporaryFolder: str | Path | None = None
    ) -> None:
        self.launcher = launcher
        self.temporaryFolder = temporaryFolder
        self.jobs: list[WorkerJob] = []  # those that are not finished

    def translate(
        self,
        sourceNode: Any,
        model: str | Path = "flair",
        steps: int | None = None,
        seed: int = 0,
        samples: int = 1,
        device: str = "auto",
        modelFolder: str | Path | None = None,
        sampler: str | None = None,
        onProgress: Callable[[WorkerProgress], object] | None = None,
    ) -> Any:
        """Translate and wait; returns the new vtkMRMLScalarVolumeNode.

        Arguments as `start`. Raises the MIDiffusionError that says what went wrong; the scene is
        then as it was.
        """
        options = (model, steps, seed, samples, device, modelFolder, sampler)
        job = self._job(sourceNode, *options, onProgress, None)
        try:
            job.start()
            while not job.finished:
                time.sleep(self.pollInterval_s)
                job.poll()
        finally:
            job.abandon()  # does something only after an interruption
        if job.error is not None:
            raise job.error
        return job.node

    def start(
        self,
        sourceNode: Any,
        model: str | Path = "flair",
        steps: int | None = None,
        seed: int = 0,
        samples: int = 1,
        device: str = "auto",
        modelFolder: str | Path | None = None,
        sampler: str | None = None,
        onProgress: Callable[[WorkerProgress], object] | None = None,
        onDone: Callable[[TranslationJob], object] | None = None,
    ) -> TranslationJob:
        """Begin a translation and return at once.

        Args:
            sourceNode: a vtkMRMLScalarVolumeNode.
            model: id of a model, or a model's folder.
            steps: network evaluations per slice and sample; the model's default if None.
            seed: of the noise; the same seed gives the same result.
            samples: how many to average; with two or more there is an uncertainty volume.
            device: auto, cpu, mps, cuda or cuda:<number>.
            modelFolder: a folder with more models.
            sampler: name of the sampler; the model's default if None.
            onProgress: called with a WorkerProgress.
            onDone: called with the job when it has ended: job.node or job.error. A map of the
                result's agreement with its source (see midiffusion.agreement) is added to the
                scene by job.addAgreement(), and otherwise gone with the job.

        What can be refused without the worker is refused here, as a MIDiffusionError and with
        nothing started; everything later is in job.error.
        """
        options = (model, steps, seed, samples, device, modelFolder, sampler)
        job = self._job(sourceNode, *options, onProgress, onDone)
        job.start()
        if not job.finished:
            self.watch(job)
        return job

    def begin(
        self,
        task: str,
        parameters: dict[str, Any],
        *,
        name: str,
        onDone: Callable[[WorkerJob], object],
        onEvent: Callable[[str, dict[str, Any]], object] | None = None,
        silence_s: float | None = None,
    ) -> WorkerJob:
        """Begin another task of the worker, which has nothing to do with the scene.

        Args: as WorkerJob; silence_s is that of translations if None.
        """

        def finished(job: WorkerJob) -> None:
            self.jobs.remove(job)
            onDone(job)

        job = WorkerJob(
            task,
            parameters,
            {},
            onDone=finished,
            onEvent=onEvent,
            name=name,
            launcher=self.launcher,
            temporaryFolder=self.temporaryFolder,
            silence_s=self.silence_s if silence_s is None else silence_s,
        )
        self.jobs.append(job)
        job.start()
        if not job.finished:
            self.watch(job)
        return job

    def watch(self, job: WorkerJob) -> None:
        """Arrange for job.poll() to be called until job.finished. Where there is no event loop,
        whoever called `start` does that."""

    def abandonAll(self) -> None:
        """End every job at once: the module or the application goes away."""
        for job in list(self.jobs):
            job.abandon()

    def _job(
        self,
        sourceNode: Any,
        model: str | Path,
        steps: int | None,
        seed: int,
        samples: int,
        device: str,
        modelFolder: str | Path | None,
        sampler: str | None,
        onProgress: Callable[[WorkerProgress], object] | None,
        onDone: Callable[[TranslationJob], object] | None,
    ) -> TranslationJob:
        _checkNumbers(steps, seed, samples, device)
        entry = registry.find(model, modelFolder)
        try:
            source = volumeFromNode(sourceNode)
        except MemoryError as error:
            size = sourceNode.GetImageData().GetActualMemorySize() << 10  # VTK counts in KiB
            raise memory.shortage(size, memory.peak_bytes()) from error
        place = Place.of(sourceNode)
        parameters = {
            "model": str(entry.folder.resolve()),
            "steps": None if steps is None else int(steps),
            "seed": int(seed),
            "samples": int(samples),
            "sampler": sampler,
            "device": device,
        }
        scene = place.scene

        def finished(job: TranslationJob) -> None:
            scene.RemoveObserver(observer)
            self.jobs.remove(job)
            if onDone is not None:
                onDone(job)

        job = TranslationJob(
            source,
            parameters,
            lambda result: _addResult(place, entry, result),
            onProgress,
            finished,
            launcher=self.launcher,
            temporaryFolder=self.temporaryFolder,
            silence_s=self.silence_s,
        )
        observer = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: job.cancel())
        self.jobs.append(job)
        return job


def _checkNumbers(steps: Any, seed: Any, samples: Any, device: Any) -> None:
    """Raises InvalidParameter."""
    if steps is not None and not _isWhole(steps, 1):
        raise InvalidParameter(f"Steps is {steps}: it must be a whole number, 1 or more.")
    if not _isWhole(samples, 1):
        raise InvalidParameter(f"Samples is {samples}: it must be a whole number, 1 or more.")
    if not _isWhole(seed, 0) or seed > _MAX_SEED:
        raise InvalidParameter(f"Seed is {seed}: it must be a whole number, 0 or more.")
    if not is_device(device):
        raise InvalidParameter(
            f"Device is {device}: it must be auto, cpu, mps, cuda or cuda:<number>."
        )


def _isWhole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _addResult(
    place: Place, entry: ModelEntry, result: WorkerResult
) -> tuple[Any, Any, Callable[[], Any] | None]:
    """Returns the nodes of the result and of its uncertainty (or None), and what adds the volume of
    its agreement with the source (or None)."""
    card = entry.card
    assert card is not None  # registry.find returns readable cards only
    attributes = _attributes(place, card, result.provenance)
    target = card.target_modality.removeprefix("MR ")
    about = (
        f"Synthetic {target} computed from '{place.sourceName}' by MIDiffusion "
        f"{attributes['version']} (model {card.id}). Research use only, not for diagnosis."
    )
    layers = [Layer(f"{place.sourceName} [synthetic {target}]", result.data, about, attributes)]
    if result.uncertainty is not None:
        name = f"{place.sourceName} [synthetic {target} uncertainty]"
        about = f"Standard deviation over {attributes['samples']} samples. {about}"
        layers.append(Layer(name, result.uncertainty, about, attributes))
    agreement = None
    if result.agreement is not None:
        name = f"{place.sourceName} [agreement with synthetic {target}]"
        what = "Local structure shared with the source, from 0 (chance) to 1; no measure of truth."
        agreement = Layer(name, result.agreement, f"{what} {about}", attributes, (0.0, 1.0))
    nodes = addLayers(place, layers)
    return (
        nodes[0],
        nodes[1] if len(nodes) > 1 else None,
        None if agreement is None else lambda: addLayers(place, [agreement])[0],
    )


def _attributes(place: Place, card: ModelCard, provenance: dict[str, Any]) -> dict[str, str]:
    """What a result says of its origin."""
    used = {key: str(provenance[key]) for key in ("version", "steps", "seed", "samples")}
    return {
        "model": card.id,
        "weightsSHA256": card.weights_sha256,
        **used,
        "source": place.sourceName,
        "synthetic": "1",
    }
