"""`midiffusion-research fuzz`: damaged files of every format, read under a memory limit.

Each file is a small valid one whose header or stream was changed at random places: bytes replaced,
numbers replaced by extreme ones, parts cut out, repeated, or cut off at the end. A process of its
own reads it. A file is read, or refused by an error of the library; anything else is a fault:
another exception, a signal, more memory than the limit, a file left behind, or more than
`--seconds`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from midiffusion.arguments import Arguments
from midiffusion.errors import MIDiffusionError
from midiffusion.images import dicom_reading, dicom_writing, io  # noqa: F401  (before the fork)
from midiffusion.images.volume import Volume

SHAPE = (6, 20, 24)
HEADER = 400  # bytes: half of the changes fall into them
NUMBERS = [b"0", b"-1", b"1e99", b"nan", b"2048", b"99999999999", b"2147483647", b""]
FAULTS = ("exception", "signal", "memory", "time", "left")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the counts as JSON; exit code 1 if there was a fault."""
    options = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        counts = campaign(Path(folder), options.files, options.seed, options.mb, options.seconds)
    text = json.dumps(counts, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return int(any(counts["all"][fault] for fault in FAULTS))


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(prog="midiffusion-research fuzz", description="Read damaged files.")
    parser.add_argument("--files", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--mb", type=int, default=300, metavar="MB", help="memory for one file")
    parser.add_argument("--seconds", type=int, default=20, metavar="T", help="time for one file")
    parser.add_argument("--out", type=Path, metavar="F.json")
    return parser


def campaign(folder: Path, files: int, seed: int, mb: int, seconds: int) -> dict[str, dict]:
    """Counts of "read", "refused" and each of FAULTS, by kind of file and of all."""
    seeds = valid_files(folder / "valid")
    random = np.random.default_rng(seed)
    counts: dict[str, Counter] = {name: Counter() for name in seeds}
    trial = folder / "trial"
    for number in range(files):
        name = list(seeds)[number % len(seeds)]
        shutil.copytree(seeds[name].parent, trial)
        target = _victim(trial, seeds[name].name, random)
        target.write_bytes(damaged(target.read_bytes(), random))
        before = sorted(trial.rglob("*"))
        outcome = _read_in_process(trial / seeds[name].name, mb, seconds)
        left = sorted(trial.rglob("*")) != before
        counts[name]["left" if left else outcome] += 1
        shutil.rmtree(trial)
    every = sum(counts.values(), Counter())
    kinds = ("read", "refused", *FAULTS)
    return {k: {kind: c[kind] for kind in kinds} for k, c in {**counts, "all": every}.items()}


def valid_files(folder: Path) -> dict[str, Path]:
    """One small volume in every format, each in a folder of its own."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 900, SHAPE).astype(np.int16)
    image = sitk.GetImageFromArray(data)
    made = {}
    for kind in ("nii", "nii.gz", "nrrd", "gzip.nrrd", "nhdr", "mha", "zlib.mha", "mhd", "hdr"):
        path = folder / kind / f"a.{kind}"
        path.parent.mkdir(parents=True)
        packed = kind.split(".")[0] in ("gzip", "zlib") or kind == "nii.gz"
        target = path.with_suffix(".img") if kind == "hdr" else path
        sitk.WriteImage(image, str(target), useCompression=packed)
        made[kind] = path
    made["mgz"] = folder / "mgz" / "a.mgz"
    made["mgz"].parent.mkdir()
    header = np.array([1, *SHAPE[::-1], 1, 4, 0], ">i4").tobytes() + b"\0\1"
    header += np.array([1, 1, 1, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0], ">f4").tobytes()
    made["mgz"].write_bytes(gzip.compress(header.ljust(284, b"\0") + data.astype(">i2").tobytes()))
    made["dicom"] = folder / "dicom" / "series"
    made["dicom"].parent.mkdir()
    dicom_writing.write_dicom(made["dicom"], Volume(data, np.eye(4), "CT"), {})
    return made


def _victim(trial: Path, name: str, random: np.random.Generator) -> Path:
    """The file that is damaged: of several any, but more often the first."""
    files = sorted(path for path in trial.rglob("*") if path.is_file())
    named = trial / name
    return (
        named if named.is_file() and random.random() < 0.7 else files[random.integers(len(files))]
    )


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One to four changes."""
    made = bytearray(content)
    packed = content[:2] == b"\x1f\x8b" and random.random() < 0.6
    if packed:  # the header is within the stream
        made = bytearray(gzip.decompress(content))
    for _ in range(random.integers(1, 5)):
        if len(made) < 8:
            break
        end = min(HEADER, len(made)) if random.random() < 0.5 else len(made)
        at = int(random.integers(0, end))
        _change(made, at, int(random.integers(0, 7)), random)
    return gzip.compress(bytes(made)) if packed else bytes(made)


def _change(made: bytearray, at: int, kind: int, random: np.random.Generator) -> None:
    length = int(random.integers(1, 9))
    if kind == 0:
        made[at] ^= 1 << int(random.integers(8))
    elif kind == 1:
        made[at : at + length] = random.bytes(length)
    elif kind == 2:
        made[at : at + length] = bytes([random.choice([0, 127, 128, 255])]) * length
    elif kind == 3:
        del made[at : at + length * 20]
    elif kind == 4:
        made[at:at] = made[at : at + length * 20]
    elif kind == 5:
        del made[at:]
    else:  # a number of a text header
        digits = [n for n, byte in enumerate(made[:HEADER]) if chr(byte).isdigit()]
        if digits:
            place = int(random.choice(digits))
            made[place : place + 1] = NUMBERS[random.integers(len(NUMBERS))]


def _read_in_process(path: Path, mb: int, seconds: int) -> str:
    """What reading and checking came to."""
    child = os.fork()
    if child == 0:
        os._exit(_read(path, mb, seconds))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "time" if os.WTERMSIG(status) == signal.SIGALRM else "signal"
    return ("read", "refused", "exception", "memory")[os.WEXITSTATUS(status)]


def _read(path: Path, mb: int, seconds: int) -> int:
    signal.alarm(seconds)
    pages = next(_status("VmSize"))
    limit = pages * 1024 + mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        io.read_volume(path).check_source()
    except MIDiffusionError as error:
        return 1 if str(error) and "\n" not in str(error) else 2
    except MemoryError:
        return 3
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 2
    return 0


def _status(name: str) -> Iterator[int]:
    """A figure of this process in kB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            yield int(line.split()[1])
