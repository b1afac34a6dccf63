"""Getting a model bundle over HTTP into a folder of models: whole and checked, or not at all.

Needs no torch. Nothing else in the package opens a connection: models in folders never do.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import (
    CorruptModel,
    DiskFull,
    DownloadFailed,
    InvalidParameter,
    MIDiffusionError,
    UnwritableTarget,
    disk_is_full,
)
from . import registry
from .card import ModelCard

OnProgress = Callable[[int, int], None]
_CARD_LIMIT = 1 << 20  # bytes; a card has a few thousand
_CHUNK = 1 << 16
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


def part_name() -> str:
    """A fresh name for `download`'s temporary folder; the registry passes over such names."""
    return f".download-{secrets.token_hex(4)}"


def download(
    url: str,
    model_folder: str | Path,
    *,
    sha256: str | None = None,
    on_progress: OnProgress | None = None,
    part: str | None = None,
    timeout_s: float = 30.0,
    attempts: int = 3,
    pause_s: float = 1.0,
) -> registry.ModelEntry:
    """The bundle at `url`, in a folder of its own (named by its id) below `model_folder`.

    A model that is there already, intact and with the same weights, is not fetched again. Proxies
    are those of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`).

    Args:
        url: http or https; the folder that holds card.json and weights.safetensors, or the
            card.json in it.
        model_folder: made if missing; removed again if nothing came of it.
        sha256: what the weights must have, 64 hexadecimal digits; that of the card must agree.
        on_progress: called with the bytes of the weights so far and in all; what it raises (such
            as Cancelled) ends the download.
        part: name, in `model_folder`, of the temporary folder, for whoever has to remove it should
            this process be killed; see `part_name`.
        timeout_s: without a byte, after which a connection counts as dead.
        attempts, pause_s: how often a broken transfer is begun anew, and the seconds in between.

    Raises:
        InvalidParameter: url, digest or folder can't be meant; another model of the id is there.
        DownloadFailed: the server can't be reached, refuses, or does not deliver.
        InvalidCard, CorruptModel, UnwritableTarget, DiskFull.
    """
    card_url, weights_url = _addresses(url)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InvalidParameter("The SHA-256 must have 64 hexadecimal digits; copy it again.")
    folder = Path(model_folder).expanduser()
    if (folder / registry.CARD).is_file():
        raise InvalidParameter(
            f"{folder} is a model itself: name the folder that holds it, or another one."
        )
    line = _Line(timeout_s, attempts, pause_s, on_progress or (lambda done, of: None))
    text = line.card(card_url)
    card = ModelCard.parse(text.decode("utf-8", errors="replace"), card_url)
    if sha256 is not None and card.weights_sha256 != sha256.lower():
        raise CorruptModel(
            f"The model at {url} is not the one expected (SHA-256 differs): check the address and "
            "the digest."
        )
    if (there := _already_there(card, folder)) is not None:
        return there
    with _temporary(folder, part or part_name()) as place:
        with _told(folder):
            if shutil.disk_usage(folder).free < card.weights_bytes:
                raise _full(folder, card)
        line.weights(weights_url, card, place / registry.WEIGHTS)
        with _told(folder):
            (place / registry.CARD).write_bytes(text)
            place.rename(folder / card.id)
    return registry.find(folder / card.id)


@contextlib.contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    """A folder in `folder`, which is made if missing; what remains of either is removed again."""
    was_there = folder.exists()
    place = folder / name
    try:
        with _told(folder):
            folder.mkdir(exist_ok=True)
            place.mkdir()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()


def _addresses(url: str) -> tuple[str, str]:
    """Of the card and of the weights, a query (such as ?download=1) kept for both."""
    wrong = InvalidParameter(
        f"'{url}' is no address to download from: it must begin with https:// or http://, name a "
        "server, and hold no spaces or accents."
    )
    try:
        parts = urllib.parse.urlsplit(url.strip())
        (parts.hostname or "").encode("idna")  # as the connection will: no part empty or too long
    except ValueError:
        raise wrong from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not re.fullmatch(r"[!-~]+", url.strip())
    ):
        raise wrong
    base = parts.path.removesuffix(registry.CARD).rstrip("/")
    card, weights = (
        urllib.parse.urlunsplit(parts._replace(path=f"{base}/{name}", fragment=""))
        for name in (registry.CARD, registry.WEIGHTS)
    )
    return card, weights


def _already_there(card: ModelCard, folder: Path) -> registry.ModelEntry | None:
    """The same model, intact. Raises InvalidParameter where its place is taken."""
    inside = (e for e in registry.available(folder) if folder in e.folder.parents)
    entry = next((entry for entry in inside if entry.id == card.id), None)
    if entry is not None and entry.card is not None:
        with contextlib.suppress(MIDiffusionError):
            registry.verify(entry)
            if entry.card.weights_sha256 == card.weights_sha256:
                return entry
    taken = folder / card.id if entry is None else entry.folder
    if taken.exists():
        raise InvalidParameter(
            f"{taken} is there already and is not this model, or damaged: remove or rename it, "
            "then download again."
        )
    return None


class _BrokenError(Exception):
    """A transfer that failed in a way that another attempt may not."""


class _Line:
    """The connection to one server, with its patience."""

    def __init__(
        self, timeout_s: float, attempts: int, pause_s: float, on_progress: OnProgress
    ) -> None:
        self._timeout_s, self._attempts, self._pause_s = timeout_s, attempts, pause_s
        self._on_progress = on_progress
        # Not build_opener: it would also open files, FTP and data addresses.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(),
        ):
            self._opener.add_handler(handler)

    def card(self, url: str) -> bytes:
        """All of a small file."""

        def fetch() -> bytes:
            text = b""
            self._on_progress(0, 0)
            for chunk in self._chunks(url, None):
                self._on_progress(0, 0)
                text += chunk
                if len(text) > _CARD_LIMIT:
                    raise CorruptModel(f"{url} is too long to be a model card: check the address.")
            return text

        return self._patiently(url, fetch)

    def weights(self, url: str, card: ModelCard, path: Path) -> None:
        """The weights of the card, checked while they come, in the file `path`."""

        def fetch() -> None:
            digest, done, of = hashlib.sha256(), 0, card.weights_bytes
            with _told(path.parent), path.open("wb") as file:
                for chunk in self._chunks(url, of):
                    done += len(chunk)
                    if done > of:
                        raise _other_size(url, "more", of)
                    digest.update(chunk)
                    file.write(chunk)
                    self._on_progress(done, of)
            if done < of:
                raise _BrokenError(f"it ended after {done} of {of} bytes")
            if digest.hexdigest() != card.weights_sha256:
                raise CorruptModel(
                    f"The weights at {url} are not those of the card (SHA-256 differs): nothing "
                    "was kept; tell whoever offers the model."
                )

        self._patiently(url, fetch)

    def _patiently(self, url: str, fetch: Callable[[], Any]) -> Any:
        for attempt in range(1, self._attempts + 1):
            try:
                return fetch()
            except _BrokenError as error:
                if attempt == self._attempts:
                    raise DownloadFailed(
                        f"{url} could not be downloaded ({error}): check the network and the "
                        "proxy, and try again; nothing was kept."
                    ) from error
            end = time.monotonic() + self._pause_s
            while time.monotonic() < end:
                self._on_progress(0, 0)  # lets a cancel through
                time.sleep(min(0.1, self._pause_s))

    def _chunks(self, url: str, size: int | None) -> Iterator[bytes]:
        """What the server sends. Raises _BrokenError, DownloadFailed, and CorruptModel where it
        announces another size."""
        request = urllib.request.Request(url, headers={"User-Agent": f"midiffusion/{__version__}"})
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                announced = response.length
                if size is not None and announced not in (None, size):
                    raise _other_size(url, str(announced), size)
                left = announced
                while chunk := response.read1(_CHUNK):
                    left = None if left is None else left - len(chunk)
                    yield chunk
                if left:
                    raise _BrokenError(f"it ended {left} bytes early")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _WORTH_ANOTHER_TRY:
                raise _BrokenError(f"the server says {error.code} {error.reason}") from error
            raise DownloadFailed(
                f"{url} is not to be had (the server says {error.code} {error.reason}): check the "
                "address."
            ) from error
        except TimeoutError as error:
            raise _BrokenError(f"nothing came for {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(
                str(getattr(error, "reason", error) or type(error).__name__)
            ) from error
        except ValueError as error:  # the server redirects to what is no address at all
            raise DownloadFailed(
                f"{url} redirects to an address that can't be used ({error}): check the address."
            ) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https, and to nothing else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise DownloadFailed(
                f"{req.full_url} redirects to {newurl}, which is not followed: check the address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _other_size(url: str, found: str, size: int) -> CorruptModel:
    return CorruptModel(
        f"The weights at {url} have {found} bytes, not the {size} its card states: nothing was "
        "kept; tell whoever offers the model."
    )


def _full(folder: Path, card: ModelCard) -> DiskFull:
    return DiskFull(
        f"The disk of {folder} is too full for the {card.weights_bytes / 1e6:.1f} MB of the model "
        f"'{card.id}': free some space and download again."
    )


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Failures to write, as errors for the user."""
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise DiskFull(
                f"The disk of {folder} is full: free some space and download again."
            ) from error
        raise UnwritableTarget(
            f"The model can't be written to {folder} ({error.strerror}): check that its parent "
            "exists and that it is writable."
        ) from error
