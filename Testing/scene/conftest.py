"""A real MRML scene without Qt, and models that compute in no time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from bundles import saveTiny
from MIDiffusionTranslateLib.logic import TranslateLogic
from MIDiffusionTranslateLib.worker.translation import TranslationJob
from scene.launching import Spy
from scene.phantoms import OBLIQUE, head, imageOf, vtkMatrix

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Any]:
    """An empty scene with Slicer's default colours, as `slicer.mrmlScene`."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colours = application.GetColorLogic()
    colours.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    # Reading an .mrb needs these two; the application has them.
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(tmp_path / "cache"))
    scene.SetCacheManager(cache)
    transfer = slicer.vtkDataIOManager()
    transfer.SetCacheManager(cache)
    scene.SetDataIOManager(transfer)
    yield scene
    scene.Clear(1)
    slicer.mrmlScene = None


@pytest.fixture
def addVolume(scene: Any) -> Callable[..., Any]:
    """add(data, matrix, name, kind): a volume node in the scene."""

    def add(
        data: np.ndarray | None = None,
        matrix: np.ndarray | None = None,
        name: str = "T1",
        kind: str = "vtkMRMLScalarVolumeNode",
    ) -> Any:
        node = scene.AddNewNodeByClass(kind, name)
        node.SetIJKToRASMatrix(vtkMatrix(OBLIQUE if matrix is None else matrix))
        node.SetAndObserveImageData(imageOf(head() if data is None else data))
        return node

    return add


@pytest.fixture(scope="session")
def tinyModel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random weights that runs through the whole path in milliseconds."""
    return saveTiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def flair() -> Path:
    """The bundle that ships; without it what needs it fails."""
    folder = ROOT / "MIDiffusionTranslate" / "Resources" / "Models" / "flair"
    assert (folder / "weights.safetensors").is_file(), "the flair model is not in this tree"
    return folder


@pytest.fixture
def handover(tmp_path: Path) -> Path:
    """Where the jobs of a test make their folders; must be empty when they are done."""
    folder = tmp_path / "handover"
    folder.mkdir()
    return folder


@pytest.fixture
def logic(handover: Path) -> Iterator[TranslateLogic]:
    logic = TranslateLogic(temporaryFolder=handover)
    yield logic
    logic.abandonAll()


@pytest.fixture
def waitFor() -> Callable[..., None]:
    """wait(job, condition): poll until the condition holds (or the job is finished)."""

    def wait(
        job: TranslationJob, condition: Callable[[], bool] | None = None, seconds: float = 120
    ) -> None:
        deadline = time.monotonic() + seconds
        while not (job.finished if condition is None else condition()):
            assert time.monotonic() < deadline, f"still {job.state}: {list(job.log)}"
            assert condition is None or not job.finished, f"{job.state}: {job.error}"
            job.poll()
            time.sleep(0.01)

    return wait


@pytest.fixture
def nodesOf() -> Callable[[Any], list[str]]:
    """nodes(scene): the ids of all nodes, to see that nothing was added or left."""

    def nodes(scene: Any) -> list[str]:
        return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))

    return nodes


@pytest.fixture
def spy(logic: TranslateLogic) -> Spy:
    spy = Spy()
    logic.launcher = spy
    return spy


@pytest.fixture
def untouched(
    scene: Any, handover: Path, nodesOf: Callable[[Any], list[str]]
) -> Callable[[TranslationJob | None], None]:
    """check(job): the scene and the hand-over folder are as if nothing had happened."""
    before: list[list[str]] = []

    def check(job: TranslationJob | None = None) -> None:
        if not before:
            before.append(nodesOf(scene))
            return
        assert nodesOf(scene) == before[0]
        assert list(handover.iterdir()) == []
        assert job is None or (job.node is None and job.deviationNode is None)

    return check
