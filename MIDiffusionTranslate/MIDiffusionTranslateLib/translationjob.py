"""A job that translates one volume: its progress, and what becomes of its result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from midiffusion.volume import Volume

from .job import WorkerJob, call
from .jobfolder import JobFolder
from .workerreport import WorkerProgress, WorkerResult


class TranslationJob(WorkerJob):
    """See WorkerJob.

    Args:
        source: the volume; its data must not change while the job is preparing.
        parameters: `model`, `model_folder`, `steps`, `seed`, `samples`, `sampler`, `device` of
            job.json.
        load: turns the result into nodes; returns (node, node of the uncertainty or None,
            what adds the agreement's volume to the scene and returns its node, or None).
        onProgress: called with a WorkerProgress.
        onDone: called once with the job when it is done, failed or cancelled.
        others: of WorkerJob.
    """

    def __init__(
        self,
        source: Volume,
        parameters: Mapping[str, Any],
        load: Callable[[WorkerResult], tuple[Any, Any, Callable[[], Any] | None]],
        onProgress: Callable[[WorkerProgress], object] | None = None,
        onDone: Callable[[TranslationJob], object] | None = None,
        **others: Any,
    ) -> None:
        geometry = {"ijkToRAS": source.ijkToRAS.tolist(), "modality": source.modality}
        super().__init__(
            "translate",
            {**parameters, **geometry},
            {"source": source.data},
            self._nodes,
            onDone,
            self._heard,
            **others,
        )
        self.node: Any = None
        self.uncertaintyNode: Any = None
        self.addAgreement: Callable[[], Any] | None = None
        self.provenance: dict[str, Any] = {}
        self.progress: WorkerProgress | None = None
        self._addNodes, self._onProgress = load, onProgress

    def _heard(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "progress":
            self.progress = WorkerProgress.ofEvent(event)
            self._usedBytes = self.progress.memory_bytes
            call(self._onProgress, self.progress)
        elif kind == "preview":
            self._preview(event["file"])

    def _preview(self, file: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a picture less is no failure
            image = self.takeFile(file)
            if self.progress is not None:
                self.progress = replace(self.progress, preview=image)
                call(self._onProgress, self.progress)

    def _nodes(self, done: dict[str, Any], folder: JobFolder) -> Any:
        names = [done[key] for key in ("result", "uncertainty", "agreement")]
        arrays: list[Any] = [name and folder.read(name) for name in names]
        self.provenance = done["provenance"]
        self.node, self.uncertaintyNode, self.addAgreement = self._addNodes(
            WorkerResult(*arrays, self.provenance)
        )
        return self.node
