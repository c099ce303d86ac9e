"""Mirrors that misbehave on demand, a network that is not there, and files counted."""

import http.server
import threading
from collections.abc import Callable
from pathlib import Path

import pytest


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `files` on 127.0.0.1, in the way that `behaviour` says.

    Behaviours: "good", "404", "other file" (of the same size), "too long", "too short"
    (and announced so), "half" (breaks off), "nothing" (accepts and never answers).
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], behaviour: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.behaviour = behaviour
        self.requested: list[str] = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/mnist/"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client may well hang up: no traceback in the test's output."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        mirror = self.server
        assert isinstance(mirror, Mirror)
        name = self.path.removeprefix("/mnist/")
        mirror.requested.append(name)
        content = mirror.files.get(name)
        if mirror.behaviour == "nothing":
            mirror.closing.wait()
            return
        if mirror.behaviour == "404" or content is None:
            self.send_error(404)
            return
        announced = len(content)
        if mirror.behaviour == "other file":
            content = bytes(len(content))
        elif mirror.behaviour == "too long":
            content += bytes(1_000_000)
            announced = len(content)
        elif mirror.behaviour == "too short":
            content = content[:-1]
            announced = len(content)
        elif mirror.behaviour == "half":
            content = content[: len(content) // 2]
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def start_mirror(monkeypatch):
    """A function (files, behaviour) -> Mirror; the mirrors end with the test."""
    # A proxy of the machine does not know its 127.0.0.1.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirrors = []

    def start(files: dict[str, bytes], behaviour: str = "good") -> Mirror:
        mirrors.append(Mirror(files, behaviour))
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.close()


@pytest.fixture
def no_network(monkeypatch) -> Callable[[], int]:
    """Refuses every connection; returns a function that counts the attempts."""
    attempts = []

    def refuse(*args: object, **kwargs: object):
        attempts.append(args)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    return lambda: len(attempts)


def listing(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def list_files() -> Callable[[Path], dict[str, bytes]]:
    """`listing`, as a fixture: a conftest is not to be imported from."""
    return listing
