"""Tasks of the worker, without its process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion.errors import UnwritableTarget
from midiffusion.images import io
from midiffusion.images.volume import Volume
from midiffusion.worker.tasks import translate_file
from midiffusion.worker.tasks.task import Task


def test_a_file_that_appears_during_a_translation_is_not_replaced(tmp_path):
    source, output = tmp_path / "source.nrrd", tmp_path / "output.nrrd"
    data = np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)
    io.write_volume(source, Volume(data, np.diag([-5.0, -5.0, 5.0, 1.0])))
    job = {
        "source_file": str(source),
        "output_file": str(output),
        "model": str(saveTiny(tmp_path / "tiny")),
        "steps": 1,
        "device": "cpu",
    }

    def send(event: str, **fields: Any) -> None:
        if event == "progress" and not output.exists():
            output.write_text("another program's")

    with pytest.raises(UnwritableTarget, match="is there already and was left as it is"):
        translate_file.run(Task(tmp_path, job, send, lambda: False))
    assert output.read_text() == "another program's"
    output.unlink()
    done = translate_file.run(Task(tmp_path, job, lambda event, **fields: None, lambda: False))
    assert done["output"] == str(output) and io.read_volume(output).data.shape == data.shape
    assert sorted(path.name for path in tmp_path.glob("*.nrrd")) == ["output.nrrd", "source.nrrd"]
