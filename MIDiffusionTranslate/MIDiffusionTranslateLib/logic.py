"""The module's logic without its Qt side: translate a volume node, in a worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from midiffusion.errors import InvalidParameter, LicenceNotAccepted
from midiffusion.models import registry
from midiffusion.models.card import ModelCard
from midiffusion.models.names import DEFAULT_MODEL, is_device
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.runtime import memory

from .batch import Batch, batchItems, summaryFor
from .scene.comparison import addComparison, beginComparison
from .scene.results import addResult, checkOutput
from .scene.volumes import Place, volumeFromNode
from .worker.events import WorkerProgress
from .worker.job import GRACE_S, WorkerJob
from .worker.staying import StayingWorker
from .worker.translation import TranslationJob
from .worker.worker_process import Launcher, launchWorker


class TranslateLogic:
    """Translates volumes of the scene. One object can run several jobs.

    One worker process stays between translations with the same model and device.

    Args:
        launcher: starts a worker process.
        temporaryFolder: where volumes are handed over; the system's by default.
        licenceAccepted: whether the user accepts the licence of a model for non-commercial use
            only; the module asks (setup/licences.py), this class by itself asks nobody.
    """

    pollInterval_s = 0.02
    silence_s = 300.0  # without an event, after which a worker counts as hanging

    def __init__(
        self,
        launcher: Launcher = launchWorker,
        temporaryFolder: str | Path | None = None,
        licenceAccepted: Callable[[ModelCard], bool] = lambda card: True,
    ) -> None:
        self.launcher, self.licenceAccepted = launcher, licenceAccepted
        self.temporaryFolder = temporaryFolder
        self.jobs: list[WorkerJob] = []  # those that are not finished
        self.staying = StayingWorker()

    def translate(
        self,
        sourceNode: Any,
        model: str | Path = DEFAULT_MODEL,
        *,
        modelFolder: str | Path | None = None,
        output: Any = None,
        errorMap: bool = False,
        onProgress: Callable[[WorkerProgress], object] | None = None,
        **options: Any,
    ) -> Any:
        """Translate and wait; returns the vtkMRMLScalarVolumeNode that holds the result.

        Arguments as `start`. Raises the MIDiffusionError that says what went wrong; the scene is
        then as it was.
        """
        request = self.request(model, modelFolder, **options)
        job = self._job(sourceNode, *request, onProgress, None, output, errorMap)
        job.start()
        self.wait(job)
        if job.error is not None:
            raise job.error
        return job.node

    def start(
        self,
        sourceNode: Any,
        model: str | Path = DEFAULT_MODEL,
        *,
        modelFolder: str | Path | None = None,
        output: Any = None,
        errorMap: bool = False,
        onProgress: Callable[[WorkerProgress], object] | None = None,
        onDone: Callable[[TranslationJob], object] | None = None,
        **options: Any,
    ) -> TranslationJob:
        """Begin a translation and return at once.

        Args:
            sourceNode: a vtkMRMLScalarVolumeNode.
            model: id of a model, or a model's folder.
            modelFolder: a folder with more models.
            output: a vtkMRMLScalarVolumeNode that receives the result; a new one if None, or if it
                has left the scene by then.
            errorMap: whether the error map is added to the scene, where there is one.
            onProgress: called with a WorkerProgress.
            onDone: called with the job when it has ended: job.node or job.error.
            options: fields of `midiffusion.TranslationOptions`: views, steps, samples, seed,
                sampler, device, source, without.

        Raises InvalidParameter, InvalidVolume, UnknownModel, InvalidCard and LicenceNotAccepted
        with nothing started; every later failure is in job.error.
        """
        request = self.request(model, modelFolder, **options)
        job = self._job(sourceNode, *request, onProgress, onDone, output, errorMap)
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
        key: str | None = None,
    ) -> WorkerJob:
        """Begin another task of the worker, which has nothing to do with the scene.

        Args: as WorkerJob; silence_s is that of translations if None. key: for a task that uses
        the worker that stays; other tasks end it, because they may need its memory.
        """
        if key is None:
            self.staying.end()

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
            staying=None if key is None else self.staying,
            key=key,
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
            options: model, modelFolder, errorMap and the options of `start`.

        A failed item is noted, and the next begins; batch.cancel() keeps finished results. Raises
        the MIDiffusionError that every item would raise, with nothing started.
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
        """End every job and worker at once: the module or the application goes away."""
        for job in list(self.jobs):
            job.abandon()
        self.staying.end()

    def request(
        self,
        model: str | Path = DEFAULT_MODEL,
        modelFolder: str | Path | None = None,
        **options: Any,
    ) -> tuple[ModelCard, dict[str, Any]]:
        """The model's card and the fields of job.json, arguments as `start`.

        Raises InvalidParameter, UnknownModel, InvalidCard, LicenceNotAccepted.
        """
        chosen = TranslationOptions(**options)
        if not is_device(chosen.device):
            raise InvalidParameter(
                f"Device is {chosen.device}: it must be auto, cpu, mps, cuda or cuda:<number>."
            )
        entry = registry.find(model, modelFolder)
        card = entry.card
        assert card is not None  # registry.find returns readable cards only
        if card.non_commercial and not self.licenceAccepted(card):
            raise LicenceNotAccepted(
                f"Not translated: the licence of '{card.title}' was not accepted."
            )
        folder = None if modelFolder is None else str(Path(modelFolder).expanduser().resolve())
        place = {"model": str(entry.folder.resolve()), "model_folder": folder}
        return card, {**place, **asdict(chosen)}

    def _job(
        self,
        sourceNode: Any,
        card: ModelCard,
        parameters: dict[str, Any],
        onProgress: Callable[[WorkerProgress], object] | None,
        onDone: Callable[[TranslationJob], object] | None,
        output: Any,
        errorMap: bool,
    ) -> TranslationJob:
        checkOutput(output, sourceNode)
        try:
            source = volumeFromNode(sourceNode)
        except MemoryError as error:
            self.staying.end()
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
            lambda result: addResult(place, card, result, output, errorMap),
            onProgress,
            finished,
            launcher=self.launcher,
            temporaryFolder=self.temporaryFolder,
            silence_s=self.silence_s,
            staying=self.staying,
            key=workerKey(parameters),
        )
        observer = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: job.cancel())
        self.jobs.append(job)
        return job


def workerKey(parameters: Mapping[str, Any]) -> str:
    """What a worker is kept for: another model or device gets a new one."""
    return f"{parameters['model']} {parameters['device']}"
