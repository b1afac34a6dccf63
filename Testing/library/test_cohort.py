"""`midiffusion batch`: items, status, claims, resume, shards, and a process that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import midiffusion.cohort.batch
import numpy as np
import pytest
from bundles import saveTiny
from midiffusion import cli
from midiffusion.cohort.batch import Batch
from midiffusion.cohort.claims import Claims
from midiffusion.cohort.items import find_items
from midiffusion.cohort.results import is_finished, read_sidecar
from midiffusion.cohort.shards import Shard, cpus
from midiffusion.cohort.status import Row, StatusTable, read_status
from midiffusion.errors import InvalidData, InvalidParameter
from midiffusion.images.io import read_volume, write_volume
from midiffusion.images.volume import Volume
from midiffusion.pipeline.options import TranslationOptions
from midiffusion.pipeline.target import load_model


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Three volumes in two folders, beside what is no volume."""
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a1.nii.gz", "a2.nrrd", "b/a1.nii.gz"):
        data = rng.random((3, 16, 16), dtype=np.float32)
        write_volume(folder / name, Volume(data, np.diag([4.0, 4.0, 5.0, 1.0])))
    for name in ("._a1.nii.gz", "notes.txt", "x_synthetic-t1.nii.gz", ".0.part.nii.gz"):
        (folder / name).write_bytes(b"no volume")
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(saveTiny(tmp_path / "models" / "tiny"))


def batch(cohort: Path, tiny: str, out: Path, **more: Any) -> Batch:
    return Batch(find_items(cohort), [tiny], out, TranslationOptions(device="cpu"), **more)


def states(out: Path) -> dict[str, str]:
    return {row.item: row.state for row in read_status(out)}


def test_items_are_the_volumes_of_all_folders_without_results_and_hidden_files(cohort):
    assert [item.name for item in find_items(cohort)] == ["a1", "a2", "b/a1"]


def test_items_of_a_tsv_list_have_their_names_and_paths_relative_to_it(cohort):
    (cohort / "list.tsv").write_text("name\tsource\nfirst\ta1.nii.gz\nsecond\tb/a1.nii.gz\n")
    found = find_items(cohort / "list.tsv")
    assert [(i.name, i.source) for i in found] == [
        ("first", cohort / "a1.nii.gz"),
        ("second", cohort / "b" / "a1.nii.gz"),
    ]


def test_a_tsv_list_without_source_column_is_refused(cohort):
    (cohort / "list.tsv").write_text("path\na1.nii.gz\n")
    with pytest.raises(InvalidData, match="no column 'source'"):
        find_items(cohort / "list.tsv")


def test_a_folder_without_volumes_is_refused(tmp_path):
    with pytest.raises(InvalidData, match="holds no volumes"):
        find_items(tmp_path)


def test_duplicate_names_and_names_outside_of_the_results_have_their_sentence(cohort):
    (cohort / "list.tsv").write_text(
        "name\tsource\nsame\ta1.nii.gz\nSame\ta2.nrrd\n../up\tb/a1.nii.gz\n"
    )
    problems = [item.problem for item in find_items(cohort / "list.tsv")]
    assert "would leave the folder" in problems[0]
    assert "have the same name" in " ".join(problems[1:]) and "" in problems[1:]


def test_batch_equals_single_translations_and_says_so_in_status_and_sidecar(cohort, tiny, tmp_path):
    out = tmp_path / "out"
    batch(cohort, tiny, out).run()
    model = load_model(tiny)
    for item in find_items(cohort):
        expected = model.translate(read_volume(item.source), device="cpu").volume.data
        assert np.array_equal(read_volume(item.result(out, "tiny")).data, expected)
        sidecar = read_sidecar(item.result(out, "tiny"))
        assert sidecar is not None and sidecar["Synthetic"] is True
        assert sidecar["Options"]["views"] == 4
    assert states(out) == {"a1": "done", "a2": "done", "b/a1": "done"}
    assert not (out / ".claims").exists()


def test_targets_of_one_backbone_give_the_same_results_together_as_alone(tmp_path, cohort):
    folder = Path(saveTiny(tmp_path / "models" / "tiny"))
    card = json.loads((folder / "card.json").read_text())
    other = folder.parent / "other"
    other.mkdir()
    (other / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    (other / "card.json").write_text(json.dumps({**card, "id": "other"}))
    models, volume = [load_model(folder), load_model(other)], read_volume(cohort / "a1.nii.gz")
    drawn: dict[Any, Any] = {}
    for model in models:
        together = model.translate(volume, TranslationOptions(device="cpu"), drawn=drawn)
        alone = model.translate(volume, device="cpu")
        assert np.array_equal(together.volume.data, alone.volume.data)
    assert len(drawn) == 3  # the views of one backbone; one holds its mirror image, too


def test_a_volume_that_fails_does_not_stop_the_rest(cohort, tiny, tmp_path, monkeypatch):
    (cohort / "a0.nii.gz").write_bytes(b"damaged")
    blocked = cohort / "a1.nii.gz"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != blocked)
    made = batch(cohort, tiny, tmp_path / "out").run()
    assert states(tmp_path / "out") == {
        "a0": "failed",
        "a1": "failed",
        "a2": "done",
        "b/a1": "done",
    }
    errors = {row.item: row.error for row in made.rows}
    assert errors["a0"].startswith("UnreadableFile: ") and "may not be read" in errors["a1"]


def test_an_unexpected_fault_fails_its_volume_alone(cohort, tiny, tmp_path, monkeypatch):
    real = midiffusion.cohort.batch.read_volume

    def read(path: Path) -> Volume:
        if path.name == "a2.nrrd":
            raise ValueError("no sentence of ours")
        return real(path)

    monkeypatch.setattr(midiffusion.cohort.batch, "read_volume", read)
    batch(cohort, tiny, tmp_path / "out").run()
    assert states(tmp_path / "out") == {"a1": "done", "a2": "failed", "b/a1": "done"}


def test_exit_code_is_the_number_of_failed_translations(cohort, tmp_path, tiny, capsys):
    (cohort / "a0.nii.gz").write_bytes(b"damaged")
    (cohort / "a3.nii.gz").write_bytes(b"damaged")
    words = ["batch", str(cohort), str(tmp_path / "out"), "--to", tiny, "--device", "cpu", "--json"]
    assert cli.main(words) == 2
    assert json.loads(capsys.readouterr().out)["failed"] == 2


def test_resume_skips_what_is_finished_and_repeats_what_is_damaged_or_asked_otherwise(
    cohort, tiny, tmp_path
):
    out = tmp_path / "out"
    batch(cohort, tiny, out).run()
    damaged = find_items(cohort)[0].result(out, "tiny")
    damaged.write_bytes(damaged.read_bytes()[:-7])
    (cohort / "a2.nrrd").unlink()
    write_volume(
        cohort / "a2.nrrd", Volume(np.ones((3, 16, 16), np.float32), np.diag([4.0, 4.0, 5.0, 1.0]))
    )
    made = batch(cohort, tiny, out, resume=True).run()
    assert {row.item: row.state for row in made.rows} == {
        "a1": "done",
        "a2": "failed",  # a source that is the same everywhere
        "b/a1": "skipped",
    }
    changed = Batch(find_items(cohort), [tiny], out, TranslationOptions(views=1), resume=True).run()
    assert changed.count("skipped") == 0


def test_without_resume_everything_is_made_anew(cohort, tiny, tmp_path):
    batch(cohort, tiny, tmp_path / "out").run()
    assert batch(cohort, tiny, tmp_path / "out").run().count("done") == 3


def test_shards_cover_every_item_once_and_their_tables_merge(cohort, tiny, tmp_path):
    out = tmp_path / "out"
    for number in (1, 2):
        batch(cohort, tiny, out, shard=Shard(number, 2)).run()
    assert {path.name for path in out.glob("status*")} == {
        "status_1-of-2.tsv",
        "status_2-of-2.tsv",
    }
    assert states(out) == {"a1": "done", "a2": "done", "b/a1": "done"}


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/2/3"])
def test_shards_that_are_none_are_refused(text):
    with pytest.raises(InvalidParameter, match="--shard"):
        Shard.parse(text)


def test_shard_of_a_slurm_array():
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert Shard.of_environment({**array, "SLURM_ARRAY_TASK_STEP": "2"}) == Shard(4, 4)
    assert Shard.of_environment({}) == Shard(1, 1)


def test_cpus_are_bounded_by_cgroup_and_slurm(tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert cpus({}, quota) == 1
    quota.write_text("max 100000\n")
    assert cpus({"SLURM_CPUS_PER_TASK": "1"}, quota) == 1


def test_a_claim_is_given_once_and_a_stale_one_is_taken_over(tmp_path):
    with Claims(tmp_path, stale_s=0.4) as one, Claims(tmp_path, stale_s=0.4) as two:
        assert one.take("a") and not two.take("a")
        time.sleep(0.8)
        assert not two.take("a")  # the heartbeat keeps it
        left = next((tmp_path / ".claims").iterdir())
        one.release("a")
        left.touch()
        os.utime(left, (1, 1))
        assert two.take("a")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_claim_of_a_killed_process_on_this_computer_is_free_at_once(tmp_path):
    program = (
        "import sys, time; from midiffusion.cohort.claims import Claims; from pathlib import Path"
    )
    program += "; print(Claims(Path(sys.argv[1])).take('a'), flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        with Claims(tmp_path) as claims:
            assert not claims.take("a")
            other.kill()
            other.wait()
            assert claims.take("a")


def test_of_many_that_take_over_a_stale_claim_one_gets_it(tmp_path):
    with Claims(tmp_path) as first:
        first.take("a")
        os.utime(next((tmp_path / ".claims").iterdir()), (1, 1))
        first._held.clear()  # as if its process had died
        answers: list[bool] = []
        others = [Claims(tmp_path) for _ in range(8)]
        threads = [threading.Thread(target=lambda c=c: answers.append(c.take("a"))) for c in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers.count(True) == 1


def test_the_last_line_of_an_item_counts_and_cut_lines_do_not(tmp_path):
    table = StatusTable(tmp_path)
    table.append(Row("a", "s", "t1", "", "failed", error="Bad: tab\tand\nline"))
    table.append(Row("a", "s", "t1", "r", "done", seconds="1"))
    with table.path.open("a") as file:
        file.write("b\ts\n")
    (row,) = read_status(tmp_path)
    assert row.state == "done"
    assert "Bad: tab and line" in table.path.read_text()


CLAIMING = """
import sys, time
from pathlib import Path
from midiffusion.cohort.claims import Claims
print(Claims(Path(sys.argv[1])).take("a"), flush=True)
time.sleep(60)
"""
PROGRAM = """
import sys
from midiffusion.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(cohort: Path, out: Path, tiny: str) -> subprocess.Popen[bytes]:
    words = ["batch", str(cohort), str(out), "--to", tiny, "--device", "cpu", "--resume"]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.DEVNULL)


def test_killed_batch_goes_on_with_nothing_lost_and_nothing_half_made(cohort, tiny, tmp_path):
    out = tmp_path / "out"
    process = start(cohort, out, tiny)
    while not list(out.glob("status*.tsv")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    batch(cohort, tiny, out, resume=True).run()
    finished = read_status(out)
    assert {row.item for row in finished if row.state != "failed"} == {"a1", "a2", "b/a1"}
    for item in find_items(cohort):
        sidecar = read_sidecar(item.result(out, "tiny"))
        keys = ("SourceSHA256", "Model", "ModelSHA256", "BackboneSHA256", "Options")
        assert sidecar and is_finished(item.result(out, "tiny"), {k: sidecar[k] for k in keys})


def test_parts_of_a_killed_process_are_removed_and_young_ones_are_not(cohort, tiny, tmp_path):
    out = tmp_path / "out"
    (out / "b").mkdir(parents=True)
    old, young = (out / name / f".{'0a' * 16}.part.nii.gz" for name in ("b", "."))
    others = out / ".mine.part.zip"
    for path in (old, young, others):
        path.touch()
    for path in (old, others):
        os.utime(path, (1, 1))
    batch(cohort, tiny, out).run()
    assert not old.exists() and young.exists() and others.exists()


def test_two_processes_on_one_folder_make_every_result_once(cohort, tiny, tmp_path):
    out = tmp_path / "out"
    processes = [start(cohort, out, tiny) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    lines = (out / "status.tsv").read_text().splitlines()
    assert sum("\tdone\t" in line for line in lines) == 3


def test_submission_runs_every_shard_through_submitit(cohort, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["batch", str(cohort), str(out), "--to", tiny, "--device", "cpu"]
    assert cli.main([*words, "--submit", "local", "--shards", "2"]) == 0
    assert states(out) == {"a1": "done", "a2": "done", "b/a1": "done"}


def test_submission_to_slurm_writes_an_array_script(cohort, tiny, tmp_path, monkeypatch, capsys):
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script.sh\necho Submitted batch job 77\n')
    fake.chmod(0o755)
    srun = fake.with_name("srun")
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    words = ["batch", str(cohort), str(tmp_path / "out"), "--to", tiny, "--submit", "slurm"]
    assert cli.main([*words, "--shards", "4", "--slurm", "gpus_per_node=1"]) == 0
    script = (tmp_path / "script.sh").read_text()
    assert "#SBATCH --array=0-3" in script and "#SBATCH --gpus-per-node=1" in script
