"""The module's logic without its Qt side: translate a volume node, in a worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from midiffusion import memory, registry
from midiffusion.card import ModelCard
from midiffusion.errors import LicenceNotAccepted
from midiffusion.names import DEFAULT_MODEL

from .batch import Batch
from .batches import batchItems, summaryFor
from .checks import checkNumbers, checkOutput
from .comparing import addComparison, beginComparison
from .job import GRACE_S, WorkerJob
from .process import Launcher, launchWorker
from .results import addResult
from .scene import Place, volumeFromNode
from .translationjob import TranslationJob
from .workerreport import WorkerProgress


class TranslateLogic:
    """Translates volumes of the scene. One object can run several jobs.

    Args:
        launcher: starts the worker of each job.
        temporaryFolder: where volumes are handed over; the system's by default.
        licenceAccepted: whether the user takes the licence of a model for non-commercial use only;
            the module asks (licences.py), by itself this class leaves that to who calls it.
    """

    pollInterval_s = 0.02
    silence_s = 300.0  # without a sign of life, after which a worker counts as hanging

    def __init__(
        self,
        launcher: Launcher = launchWorker,
        temporaryFolder: str | Path | None = None,
        licenceAccepted: Callable[[ModelCard], bool] = lambda card: True,
    ) -> None:
        self.launcher, self.licenceAccepted = launcher, licenceAccepted
        self.temporaryFolder = temporaryFolder
        self.jobs: list[WorkerJob] = []  # those that are not finished

    def translate(
        self,
        sourceNode: Any,
        model: str | Path = DEFAULT_MODEL,
        steps: int | None = None,
        seed: int = 0,
        samples: int = 1,
        device: str = "auto",
        modelFolder: str | Path | None = None,
        sampler: str | None = None,
        onProgress: Callable[[WorkerProgress], object] | None = None,
        output: Any = None,
    ) -> Any:
        """Translate and wait; returns the vtkMRMLScalarVolumeNode that holds the result.

        Arguments as `start`. Raises the MIDiffusionError that says what went wrong; the scene is
        then as it was.
        """
        request = self.request(model, steps, seed, samples, device, modelFolder, sampler)
        job = self._job(sourceNode, *request, onProgress, None, output)
        job.start()
        self.wait(job)
        if job.error is not None:
            raise job.error
        return job.node

    def start(
        self,
        sourceNode: Any,
        model: str | Path = DEFAULT_MODEL,
        steps: int | None = None,
        seed: int = 0,
        samples: int = 1,
        device: str = "auto",
        modelFolder: str | Path | None = None,
        sampler: str | None = None,
        onProgress: Callable[[WorkerProgress], object] | None = None,
        onDone: Callable[[TranslationJob], object] | None = None,
        output: Any = None,
    ) -> TranslationJob:
        """Begin a translation and return at once.

        Args:
            sourceNode: a vtkMRMLScalarVolumeNode.
            model: id of a model, or a model's folder.
            steps: network evaluations per slice and sample; the model's default if None.
            seed: of the noise; the same seed gives the same result.
            samples: how many to average; with two or more there is a volume of their deviation.
            device: auto, cpu, mps, cuda or cuda:<number>.
            modelFolder: a folder with more models.
            sampler: name of the sampler; the model's default if None.
            onProgress: called with a WorkerProgress.
            onDone: called with the job when it has ended: job.node or job.error. A map of the
                result's agreement with its source (see midiffusion.agreement) is added to the
                scene by job.addAgreement(), and otherwise gone with the job.
            output: a vtkMRMLScalarVolumeNode that receives the result; a new one if None, or if it
                has left the scene by then.

        What can be refused without the worker is refused here, as a MIDiffusionError and with
        nothing started; everything later is in job.error.
        """
        request = self.request(model, steps, seed, samples, device, modelFolder, sampler)
        job = self._job(sourceNode, *request, onProgress, onDone, output)
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
        grace_s: float = GRACE_S,
        arrays: Mapping[str, np.ndarray] | None = None,
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
            arrays or {},
            onDone=finished,
            onEvent=onEvent,
            name=name,
            launcher=self.launcher,
            temporaryFolder=self.temporaryFolder,
            silence_s=self.silence_s if silence_s is None else silence_s,
            grace_s=grace_s,
        )
        self.jobs.append(job)
        job.start()
        if not job.finished:
            self.watch(job)
        return job

    def startAll(
        self,
        sources: Sequence[Any] | str | Path,
        outputFolder: str | Path | None = None,
        onProgress: Callable[[Batch], object] | None = None,
        onDone: Callable[[Batch], object] | None = None,
        **options: Any,
    ) -> Batch:
        """Begin to translate many volumes, one after the other, and return at once.

        Args:
            sources: volume nodes, or files, or a folder whose volumes are meant.
            outputFolder: for files: where the results are written; no file is replaced. The
                results of nodes are added to the scene.
            onProgress, onDone: called with the Batch; at the end batch.table is the summary, or
                None if the scene was closed in the meantime.
            options: model, steps, seed, samples, device, modelFolder, sampler, as `start`.

        What fails is noted, and the next begins; batch.cancel() ends it and keeps what is finished.
        Raises the MIDiffusionError for what would fail in every item, with nothing started.
        """

        items = batchItems(self, sources, outputFolder, options)
        addSummary = summaryFor(slicer.mrmlScene)

        def finished(batch: Batch) -> None:
            addSummary(batch)
            if onDone is not None:
                onDone(batch)

        batch = Batch(items, onProgress, finished)
        batch.start()
        return batch

    def translateAll(
        self,
        sources: Sequence[Any] | str | Path,
        outputFolder: str | Path | None = None,
        onProgress: Callable[[Batch], object] | None = None,
        **options: Any,
    ) -> Batch:
        """`startAll`, and wait; returns the Batch with its items and its table."""
        batch = self.startAll(sources, outputFolder, onProgress, **options)
        self.wait(batch)
        return batch

    def compare(self, result: Any, reference: Any) -> Any:
        """Compare a result with a real volume, and wait; returns the vtkMRMLTableNode whose last
        row has the figures. Raises InvalidVolume, and what a worker can raise."""
        job = beginComparison(self, result, reference, lambda job: None)
        self.wait(job)
        if job.error is not None:
            raise job.error
        return addComparison(result, reference, job.result)

    def watch(self, job: WorkerJob) -> None:
        """Arrange for job.poll() to be called until job.finished. Where there is no event loop,
        whoever called `start` does that."""

    def wait(self, job: Any) -> None:
        """Polls a job (or a batch) until it is finished; an interruption ends it."""
        try:
            while not job.finished:
                time.sleep(self.pollInterval_s)
                job.poll()
        finally:
            job.abandon()  # does something only after an interruption

    def abandonAll(self) -> None:
        """End every job at once: the module or the application goes away."""
        for job in list(self.jobs):
            job.abandon()

    def request(
        self,
        model: str | Path = DEFAULT_MODEL,
        steps: int | None = None,
        seed: int = 0,
        samples: int = 1,
        device: str = "auto",
        modelFolder: str | Path | None = None,
        sampler: str | None = None,
    ) -> tuple[ModelCard, dict[str, Any]]:
        """The model's card and the fields of job.json, arguments as `start`.

        Raises InvalidParameter, UnknownModel, InvalidCard, LicenceNotAccepted.
        """
        checkNumbers(steps, seed, samples, device)
        entry = registry.find(model, modelFolder)
        card = entry.card
        assert card is not None  # registry.find returns readable cards only
        if card.non_commercial and not self.licenceAccepted(card):
            raise LicenceNotAccepted(
                f"Not translated: the licence of '{card.title}' was not accepted."
            )
        return card, {
            "model": str(entry.folder.resolve()),
            "steps": None if steps is None else int(steps),
            "seed": int(seed),
            "samples": int(samples),
            "sampler": sampler,
            "device": device,
        }

    def _job(
        self,
        sourceNode: Any,
        card: ModelCard,
        parameters: dict[str, Any],
        onProgress: Callable[[WorkerProgress], object] | None,
        onDone: Callable[[TranslationJob], object] | None,
        output: Any,
    ) -> TranslationJob:
        checkOutput(output, sourceNode)
        try:
            source = volumeFromNode(sourceNode)
        except MemoryError as error:
            size = sourceNode.GetImageData().GetActualMemorySize() << 10  # VTK counts in KiB
            raise memory.shortage(size, memory.peak_bytes()) from error
        place = Place.of(sourceNode)
        scene = place.scene

        def finished(job: TranslationJob) -> None:
            scene.RemoveObserver(observer)
            self.jobs.remove(job)
            if onDone is not None:
                onDone(job)

        job = TranslationJob(
            source,
            parameters,
            lambda result: addResult(place, card, result, output),
            onProgress,
            finished,
            launcher=self.launcher,
            temporaryFolder=self.temporaryFolder,
            silence_s=self.silence_s,
        )
        observer = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: job.cancel())
        self.jobs.append(job)
        return job
