"""`midiffusion-research study pipeline` on a head of a few slices, with the shipped models."""

from __future__ import annotations

import json

import numpy as np
import pytest
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume
from midiffusion_research import study
from midiffusion_research.whole_heads import head_and_brain


@pytest.fixture
def data(tmp_path):
    """T1 and FLAIR of one head: an ellipsoid with a rim and a core."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (7, 120, 108)), indexing="ij")
    radius = np.sqrt((k / 2) ** 2 + (j / 0.95) ** 2 + (i / 0.9) ** 2)
    for name, rim, core in (("T1", 900, 200), ("FLAIR", 300, 700)):
        image = np.select([radius > 1, radius > 0.9, radius < 0.3], [0, rim, core], 500.0)
        image *= 1 + 0.1 * np.sin(12 * i)
        folder = tmp_path / "openms_wholehead"
        folder.mkdir(exist_ok=True)
        volume = Volume(image.astype(np.float32), np.diag([-1.6, -1.6, 8, 1]), "MR")
        write_volume(folder / f"p01_{name}.nii.gz", volume)
    return tmp_path


def test_every_changing_step_is_left_out_once(data, tmp_path, capsys):
    out = tmp_path / "study.json"
    assert study.main(["pipeline", "--data", str(data), "--json", str(out)]) == 0
    found = json.loads(out.read_text())["variants"]
    assert list(found) == ["default", "without look", "without detail", "one view"]
    directions = [(row["source"], row["target"]) for row in found["default"]]
    assert directions == [("flair", "t1"), ("t1", "flair")]
    assert found["one view"][0]["error_rank_head"] is None
    assert found["default"][0] != found["without detail"][0]
    printed = capsys.readouterr().out
    assert "| flair | without look |" in printed
    assert study.main(["pipeline", "--tables", str(out)]) == 0
    assert capsys.readouterr().out == printed


def test_missing_data_are_named(tmp_path):
    with pytest.raises(InvalidParameter, match="--data"):
        study.main(["pipeline"])
    with pytest.raises(InvalidData, match="no pair"):
        study.main(["pipeline", "--data", str(tmp_path)])


def test_brain_lies_deeper_than_two_centimetres():
    data = np.zeros((5, 60, 60), np.float32)
    data[:, 5:55, 5:55] = 1 + np.arange(50)
    volume = Volume(data, np.diag([1.0, 1, 30, 1]))
    head, brain = head_and_brain(data, volume, extracted=False)
    assert head[2, 5:55, 10:55].all() and not head[:, :5].any()
    assert not brain[:, :25].any() and brain[2, 30, 30]
