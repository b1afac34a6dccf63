"""A local HTTP server of one model bundle that can be told to misbehave, and a proxy in front."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class BundleServer(http.server.ThreadingHTTPServer):
    """Serves the files of `bundle` under /model/.

    Attributes:
        behaviour: what becomes of a request for the weights; see `_Handler.weights`.
        faults: how many more requests for the weights get it; the others are served well.
        requests: the request targets, in the order they came. A proxy is asked for whole addresses.
        released: set when a stalled connection may end.
    """

    daemon_threads = True

    def __init__(self, bundle: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bundle = bundle
        self.behaviour, self.faults = "", 1 << 30
        self.requests: list[str] = []
        self.released = threading.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/model/"

    def weightsRequests(self) -> int:
        return sum("weights" in request for request in self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client may well have gone."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: BundleServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        data = (self.server.bundle / name).read_bytes()
        if name == "card.json":
            self.send(data, {"Content-Length": len(data)})
        elif self.server.behaviour and self.server.faults > 0:
            self.server.faults -= 1
            self.weights(data)
        else:
            self.send(data, {"Content-Length": len(data)})

    def weights(self, data: bytes) -> None:
        kind, half = self.server.behaviour, data[: len(data) // 2]
        full = {"Content-Length": len(data)}
        if kind == "stall":
            self.send(half, full)
            self.server.released.wait(60)
        elif kind == "silent":
            self.server.released.wait(60)
        elif kind == "truncate":
            self.send(half, full)
        elif kind == "truncate unannounced":
            self.send(half, {})
        elif kind == "announce more":
            self.send(data, {"Content-Length": len(data) + 1000})
        elif kind == "announce less":
            self.send(half, {"Content-Length": len(half)})
        elif kind == "never end":
            self.send(data, {})
            while not self.server.released.wait(0.01):
                self.wfile.write(data)
        elif kind == "damage":
            self.send(bytes([data[0] ^ 1]) + data[1:], full)
        elif kind.startswith("redirect "):
            self.send(b"", {"Location": kind.split()[1], "Content-Length": 0}, 302)
        else:
            self.send(b"", {"Content-Length": 0}, int(kind))

    def send(self, data: bytes, headers: dict[str, object], status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: tests read `requests`."""


@contextmanager
def serving(bundle: Path) -> Iterator[BundleServer]:
    """A running server; it is gone afterwards."""
    server = BundleServer(bundle)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
