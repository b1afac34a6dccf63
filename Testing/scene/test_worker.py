"""The worker's manners as a process: its streams, its errors, its end. Needs no torch.

Where a test needs work that misbehaves, it replaces `run`, the part between the manners.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scene.launching import LIBRARY


def launch(folder: Path, run: str | None = None) -> subprocess.Popen[bytes]:
    """The worker on a folder; `run` is the body of a function run(folder, channel, watch)."""
    if run is None:
        command = ["-m", "midiffusion.worker.service", str(folder)]
    else:
        body = "\n".join("    " + line for line in run.splitlines())
        script = (
            "import os, sys, time\nfrom midiffusion.worker import service as worker\n"
            f"def run(folder, channel, watch):\n{body}\n"
            f"worker.run = run\nworker.main([{str(folder)!r}])\n"
        )
        command = ["-c", script]
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(b"run\n")
    process.stdin.flush()
    return process


def finish(process: subprocess.Popen[bytes]) -> tuple[list[dict[str, Any]], str]:
    """The events and stderr of a process whose stdin stays open until it ends."""
    assert process.stdout and process.stderr
    try:
        process.wait(60)
    finally:
        process.kill()
    events = [json.loads(line) for line in process.stdout.read().splitlines()]
    return events, process.stderr.read().decode()


def test_a_job_that_can_t_be_read(tmp_path: Path) -> None:
    process = launch(tmp_path)
    events, _ = finish(process)
    assert [event["event"] for event in events] == ["start", "error"]
    assert events[0]["pid"] == process.pid
    assert events[1]["code"] == "unreadable-file"
    assert "job.json" in events[1]["message"]
    assert process.returncode == 1


def test_stdout_belongs_to_the_events(tmp_path: Path) -> None:
    process = launch(tmp_path, "print('from Python')\nos.write(1, b'from C\\n')")
    events, errors = finish(process)
    assert [event["event"] for event in events] == ["start"]
    assert "from Python" in errors
    assert "from C" in errors


def test_an_unexpected_failure_is_an_event_and_a_traceback(tmp_path: Path) -> None:
    events, errors = finish(launch(tmp_path, "{}['key that is not there']"))
    assert events[-1]["code"] == "internal"
    assert "KeyError" in events[-1]["message"]
    assert "Traceback" in errors


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(12, 'Cannot allocate memory')"])
def test_no_memory_is_said_in_so_many_words(tmp_path: Path, error: str) -> None:
    (tmp_path / "source.npy").write_bytes(bytes(3 << 20))
    events, _ = finish(launch(tmp_path, f"raise {error}"))
    assert events[-1]["code"] == "out-of-memory"
    assert re.search(r"volume of 3\.0 MB \(\d+ MB used, \d+ MB free\)", events[-1]["message"])


_TASK = """
watch.task = worker.Task(folder, {}, channel.send, watch.requested.is_set)
watch.task.leftovers.append(folder)
"""
BUSY = f"{_TASK}while True: sum(range(1000))"
# Longer than a worker has by default from the wish to end.
SAVING = f"""{_TASK}watch.task.grace_s = 60.0
watch.requested.wait()
time.sleep(3.0)
(folder.parent / "saved").touch()
watch.task.check()"""


def waitForStart(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout
    assert json.loads(process.stdout.readline())["event"] == "start"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end of stdin", "line", "file"])
def test_work_that_does_not_listen_is_ended(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    process = launch(folder, BUSY)
    try:
        waitForStart(process)
        assert process.stdin
        if how == "end of stdin":
            process.stdin.close()
        elif how == "line":
            process.stdin.write(b"cancel\n")
            process.stdin.flush()
        else:
            (folder / "cancel").touch()
        assert process.wait(30) == 130
        assert not folder.exists()
    finally:
        process.kill()


@pytest.mark.slow
def test_work_with_something_to_save_gets_the_time(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    process = launch(folder, SAVING)
    try:
        waitForStart(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(30) == 130
        assert (tmp_path / "saved").exists() and not folder.exists()
    finally:
        process.kill()


@pytest.mark.slow
def test_a_stdin_that_never_was_is_no_cancel(tmp_path: Path) -> None:
    script = (
        "import time\nfrom midiffusion.worker import service as worker\n"
        "worker.run = lambda *_: time.sleep(3)\n"
        f"worker.main([{str(tmp_path)!r}])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_no_worker_survives_its_parent(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nsys.path[:0] = sys.argv[2:]\n"
            "from pathlib import Path\nfrom scene.test_worker import BUSY, launch\n"
            "print(launch(Path(sys.argv[1]), BUSY).pid, flush=True)\ntime.sleep(600)",
            str(folder),
            str(LIBRARY),
            str(LIBRARY.parent / "Testing"),
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout
    worker = int(parent.stdout.readline())
    try:
        time.sleep(1.0)  # let it begin; if it has not, it ends all the sooner
        assert isAlive(worker)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while isAlive(worker):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        parent.kill()
        if isAlive(worker):
            os.kill(worker, signal.SIGKILL)


def isAlive(pid: int) -> bool:
    """Whether a process that need not be our child still runs (a zombie doesn't)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        if Path("/proc").is_dir():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state != "Z"
