"""Downloading a model: whole and checked or not at all, from servers good and bad."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import changeCard
from bundleserver import BundleServer, serving
from midiffusion import cli
from midiffusion.errors import (
    Cancelled,
    CorruptModel,
    DiskFull,
    DownloadFailed,
    InvalidCard,
    InvalidParameter,
    UnwritableTarget,
)
from midiffusion.models import registry
from midiffusion.models.download import download
from trainingimages import saveVolumes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def noProxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(make_bundle: Callable[..., Path]) -> Iterator[BundleServer]:
    bundle = make_bundle("served/toy")
    # More than one chunk, so that there is something to interrupt.
    (bundle / "weights.safetensors").write_bytes(bytes(range(256)) * 1200)

    data = (bundle / "weights.safetensors").read_bytes()
    changeCard(bundle, weights_bytes=len(data), weights_sha256=hashlib.sha256(data).hexdigest())
    with serving(bundle) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetch(server: BundleServer, folder: Path, **options: Any) -> registry.ModelEntry:
    patience = {"timeout_s": 0.3, "attempts": 2, "pause_s": 0.0}
    return download(server.url, folder, **{**patience, **options})


def refused(server: BundleServer, folder: Path, error: type, words: str, **options: Any) -> None:
    """It is refused with these words, and nothing is left."""
    with pytest.raises(error, match=words):
        fetch(server, folder, **options)
    assert not folder.exists()


def test_a_model_arrives_whole(server: BundleServer, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    entry = fetch(server, folder, on_progress=lambda done, of: seen.append((done, of)))
    assert entry.folder == folder / "toy"
    registry.verify(entry)
    assert [entry.id for entry in registry._bundles(folder)] == ["toy"]
    for name in ("card.json", "weights.safetensors"):
        assert (entry.folder / name).read_bytes() == (server.bundle / name).read_bytes()
    assert [*folder.iterdir()] == [entry.folder]
    size = 256 * 1200
    assert seen[-1] == (size, size)
    assert len({done for done, _ in seen}) > 2 and seen == sorted(seen, key=lambda mark: mark[0])


@pytest.mark.parametrize("address", ["model", "model/", "model/card.json", "model/?a=b"])
def test_what_an_address_may_look_like(server: BundleServer, folder: Path, address: str) -> None:
    download(f"{server.origin}/{address}", folder)
    query = address.partition("?")[1] + address.partition("?")[2]
    assert server.requests == [
        f"/model/{name}{query}" for name in ("card.json", "weights.safetensors")
    ]


@pytest.mark.parametrize(
    "behaviour, words",
    [
        ("stall", "nothing came for 0.3 s"),
        ("silent", "nothing came for 0.3 s"),
        ("truncate", "ended 153600 bytes early"),
        ("truncate unannounced", "ended after 153600 of 307200 bytes"),
        ("503", "the server says 503"),
    ],
)
def test_a_broken_transfer_is_begun_anew(
    server: BundleServer, folder: Path, behaviour: str, words: str
) -> None:
    server.behaviour = behaviour
    refused(server, folder, DownloadFailed, words)
    assert server.weightsRequests() == 2
    server.faults = 1
    registry.verify(fetch(server, folder))
    assert [path.name for path in folder.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    "behaviour, error, words",
    [
        ("announce more", CorruptModel, "have 308200 bytes, not the 307200"),
        ("announce less", CorruptModel, "have 153600 bytes, not the 307200"),
        ("never end", CorruptModel, "have more bytes, not the 307200"),
        ("damage", CorruptModel, "SHA-256 differs"),
        ("404", DownloadFailed, "404"),
        ("redirect file:///etc/passwd", DownloadFailed, "check the address"),
        ("redirect ftp://127.0.0.1/weights", DownloadFailed, "not followed"),
    ],
)
def test_what_no_second_attempt_mends(
    server: BundleServer, folder: Path, behaviour: str, error: type, words: str
) -> None:
    server.behaviour = behaviour
    refused(server, folder, error, words)
    assert server.weightsRequests() == 1


def test_a_redirection_to_another_server_is_followed(server: BundleServer, folder: Path) -> None:
    with serving(server.bundle) as other:
        server.behaviour = f"redirect {other.url}weights.safetensors"
        registry.verify(fetch(server, folder))
        assert other.requests == ["/model/weights.safetensors"]


def test_redirections_in_a_circle_end(server: BundleServer, folder: Path) -> None:
    server.behaviour = f"redirect {server.url}weights.safetensors"
    refused(server, folder, DownloadFailed, "302")


def test_a_server_that_is_not_there(folder: Path, make_bundle: Callable[..., Path]) -> None:
    with serving(make_bundle("gone")) as gone:
        pass
    refused(gone, folder, DownloadFailed, "refused|reset")


def test_the_digest_that_was_asked_for(server: BundleServer, folder: Path) -> None:
    digest = json.loads((server.bundle / "card.json").read_text())["weights_sha256"]
    refused(server, folder, CorruptModel, "not the one expected", sha256="0" * 64)
    refused(server, folder, InvalidParameter, "64 hexadecimal digits", sha256="abc")
    assert server.weightsRequests() == 0
    fetch(server, folder, sha256=digest.upper())


@pytest.mark.parametrize(
    "change, words",
    [({"id": "../evil"}, "'id'"), ({"weights_bytes": -1}, "'weights_bytes'")],
)
def test_a_card_that_breaks_the_rules(
    server: BundleServer, folder: Path, change: dict[str, Any], words: str
) -> None:
    changeCard(server.bundle, **change)
    refused(server, folder, InvalidCard, words)


def test_a_page_that_is_no_card(server: BundleServer, folder: Path) -> None:
    (server.bundle / "card.json").write_text("<html>Sign in</html>")
    refused(server, folder, InvalidCard, "not valid JSON")
    (server.bundle / "card.json").write_bytes(b" " * ((1 << 20) + 1))
    refused(server, folder, CorruptModel, "too long")


def test_weights_that_no_disk_holds(server: BundleServer, folder: Path) -> None:
    changeCard(server.bundle, weights_bytes=1 << 60)
    refused(server, folder, DiskFull, "free some space")
    assert server.weightsRequests() == 0


def test_the_disk_fills_up(server: BundleServer, folder: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        refused(server, folder, DiskFull, "is full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_cancelled_download_leaves_nothing(server: BundleServer, folder: Path) -> None:
    def cancel(done: int, of: int) -> None:
        if done:
            assert len([*folder.iterdir()]) == 1 and registry._bundles(folder) == []
            raise Cancelled("enough")

    refused(server, folder, Cancelled, "enough", on_progress=cancel)
    fetch(server, folder)


def test_a_folder_that_can_t_be(server: BundleServer, tmp_path: Path) -> None:
    with pytest.raises(UnwritableTarget, match="parent exists"):
        fetch(server, tmp_path / "no" / "where")
    assert not (tmp_path / "no").exists()
    with pytest.raises(InvalidParameter, match="is a model itself"):
        fetch(server, server.bundle)


def test_what_is_there_already(server: BundleServer, folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    fetch(server, folder)
    assert server.weightsRequests() == 1
    assert fetch(server, folder).id == "toy"
    assert server.weightsRequests() == 1  # the same model, intact: not fetched again
    weights = folder / "toy" / "weights.safetensors"
    weights.write_bytes(b"damaged")
    with pytest.raises(InvalidParameter, match="remove or rename it"):
        fetch(server, folder)
    assert weights.read_bytes() == b"damaged"
    (folder / "toy").rename(folder / "other-name")
    with pytest.raises(InvalidParameter, match="other-name is there already"):
        fetch(server, folder)
    shutil.rmtree(folder / "other-name")
    fetch(server, folder)
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "toy"}


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/", "ftp://host/model/", "host/model", "http:///model", "http://a b/"),
        *("http://[::1/model", "http://host..org/model", f"http://{'a' * 64}.org/model"),
        "http://user@/model",
    ],
)
def test_addresses_that_are_none(folder: Path, url: str) -> None:
    with pytest.raises(InvalidParameter, match="no address to download from"):
        download(url, folder)


def test_the_proxy_of_the_environment_is_used(
    server: BundleServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.origin)
    download("http://models.invalid/model/", folder)
    assert server.requests[0] == "http://models.invalid/model/card.json"
    monkeypatch.setenv("no_proxy", "models.invalid")
    with pytest.raises(DownloadFailed):
        download("http://models.invalid/model/", folder, attempts=1)
    assert len(server.requests) == 2


def test_from_the_command_line(
    server: BundleServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models", "download", server.url, "--model-folder", str(folder)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{folder / 'toy'}\n"
    assert cli.main(["models", "verify", "toy", "--model-folder", str(folder)]) == 0
    server.behaviour = "404"
    shutil.rmtree(folder)
    capsys.readouterr()
    assert cli.main(words) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("error: ") and streams.err.count("\n") == 1
    assert not folder.exists()


NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.")):
        raise SystemExit(f"touched the network: {event}")
sys.addaudithook(refuse)
from midiffusion import cli
for words in (line.split("\\t") for line in sys.argv[1:]):
    assert cli.main(words) == 0, words
"""


def test_local_folders_never_touch_the_network(tmp_path: Path) -> None:
    from bundles import saveTiny

    folder = saveTiny(tmp_path / "models" / "tiny").parent
    source = saveVolumes(tmp_path / "volumes", 1) / "subject0.nii.gz"
    there = ["--model-folder", str(folder)]
    local = (
        ["models", "list", *there],
        ["models", "show", "tiny", *there],
        ["models", "verify", "tiny", *there],
        ["translate", str(source), "--to", "tiny", "-o", str(tmp_path / "out.nrrd"), *there]
        + ["--steps", "1", "--device", "cpu"],
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "MIDiffusionTranslate")}

    def run(*commands: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", NO_NETWORK, *map("\t".join, commands)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = run(*local)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.nrrd").is_file()
    # It can fail: a command that does open a connection is caught.
    caught = run(["models", "download", "http://127.0.0.1:9/", *there])
    assert "touched the network" in caught.stderr
