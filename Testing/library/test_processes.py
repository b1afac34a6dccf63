"""Training in several processes: torchrun with two of them on one computer, by gloo."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from midiffusion.errors import InvalidParameter
from midiffusion.training.loop import CHECKPOINT
from midiffusion.training.processes import Processes
from safetensors.torch import load_file

# Linear regression; process r of n takes part r of every batch, so that all processes together
# see the images that one process sees.
RUN = """
import sys
from pathlib import Path
import torch
from midiffusion.training.loop import LoopConfig, TrainingRun

class Regression(TrainingRun):
    def losses(self):
        random = torch.Generator().manual_seed(self.step)
        x = torch.randn(self.config.batch, 3, generator=random)
        y = x @ torch.tensor([1.0, -2.0, 0.5])
        own = slice(self.processes.rank * self.batch, (self.processes.rank + 1) * self.batch)
        torch.rand(1, generator=self.generator)
        return (self.model(x[own])[:, 0] - y[own]).square().mean()[None]

out, steps, resume = Path(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
torch.manual_seed(0)
config = LoopConfig(images=320, batch=8, learning_rate=0.05)
run = Regression(config, torch.nn.Linear(3, 1), ("loss",))
if resume:
    run.resume(out)
run.run(out, stop=lambda: run.step >= steps)
"""


@pytest.fixture
def train(tmp_path: Path):
    """train(processes, folder, steps, "resume"?) -> tensors of the checkpoint."""
    script = tmp_path / "run.py"
    script.write_text(RUN)

    def train(processes: int, name: str, steps: int, *resume: str) -> dict[str, torch.Tensor]:
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        words = [sys.executable, *(start if processes > 1 else []), str(script)]
        words += [str(tmp_path / name), str(steps), *resume]
        package = str(Path(__file__).parents[2] / "MIDiffusionTranslate")
        environment = {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return load_file(tmp_path / name / CHECKPOINT)

    return train


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        if name != "generator":
            torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_two_processes_learn_as_one_with_the_whole_batch_and_resume(train, tmp_path):
    whole = train(1, "one", 40)
    assert_same(train(2, "two", 40), whole)
    curves = []
    for name in ("one", "two"):
        with (tmp_path / name / "log.csv").open() as file:
            curves.append([float(row["loss"]) for row in csv.DictReader(file)])
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert len(train(2, "parts", 15)["generator"]) == 2
    assert_same(train(2, "parts", 40, "resume"), whole)
    train(2, "lost", 15)  # one of the two computers is gone
    assert_same(train(1, "lost", 40, "resume"), whole)


def test_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Processes().share(16) == 16  # not started by torchrun
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    assert Processes().share(15) == 5
    with pytest.raises(InvalidParameter, match="16 images can't be divided among 3 processes"):
        Processes().share(16)
