"""A job that translates one volume: its progress, and what becomes of its result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from midiffusion.images.volume import Volume

from .events import WorkerProgress, WorkerResult
from .folder import JobFolder
from .job import WorkerJob, call


class TranslationJob(WorkerJob):
    """See WorkerJob.

    Args:
        source: the volume; its data must not change while the job is preparing.
        parameters: `model`, `model_folder` and the fields of `TranslationOptions` of job.json.
        load: turns the result into nodes: of the result, of the error map, of the deviation; the
            last two may be None.
        onProgress: called with a WorkerProgress.
        onDone: called once with the job when it is done, failed or cancelled.
        others: of WorkerJob.
    """

    def __init__(
        self,
        source: Volume,
        parameters: Mapping[str, Any],
        load: Callable[[WorkerResult], tuple[Any, Any, Any]],
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
        self.errorMapNode: Any = None
        self.deviationNode: Any = None
        self.typicalError: float | None = None
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
        def array(key: str) -> Any:
            return folder.read(done[key]) if done[key] else None

        result = WorkerResult(
            array("result"), array("error_map"), array("deviation"), done["provenance"]
        )
        self.provenance = result.provenance
        self.typicalError = typicalError(result)
        self.node, self.errorMapNode, self.deviationNode = self._addNodes(result)
        return self.node


def typicalError(result: WorkerResult) -> float | None:
    """Median expected error inside the head, in the units of the result; None without a map."""
    if result.error_map is None:
        return None
    inside = result.error_map[result.error_map > 0]  # air outside the head has no error
    return float(np.median(inside)) if inside.size else 0.0
