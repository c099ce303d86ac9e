"""A small MNIST with files of its own, and mirrors that misbehave on demand."""

import dataclasses
import gzip
import hashlib
import http.server
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.data import Split, idx, mnist


@dataclasses.dataclass(frozen=True)
class TinyMnist:
    """Stands for the official files: `mnist.FILES` has their names and checksums."""

    folder: Path
    packed: dict[str, bytes]
    train: Split
    test: Split

    def write(self, *, without: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        for name, content in self.packed.items():
            if name != without:
                (self.folder / name).write_bytes(content)


def random_split(count: int, seed: int) -> Split:
    rng = np.random.RandomState(seed)
    images = rng.randint(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return Split(images, (np.arange(count) % 10).astype(np.uint8))


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> TinyMnist:
    """A set of 30 + 20 random images; nothing of it lies in `folder` yet."""
    splits = {"train": random_split(30, seed=0), "test": random_split(20, seed=1)}
    files, packed = {}, {}
    for part, split in splits.items():
        contents = idx.encode(split.images[..., 0]), idx.encode(split.labels)
        files[part] = tuple(
            mnist.OfficialFile(
                name=file.name,
                sha256=hashlib.sha256(content).hexdigest(),
                gz_size=len(gzip.compress(content, mtime=0)),
                gz_sha256=hashlib.sha256(gzip.compress(content, mtime=0)).hexdigest(),
            )
            for file, content in zip(mnist.FILES[part], contents, strict=True)
        )
        for file, content in zip(files[part], contents, strict=True):
            packed[f"{file.name}.gz"] = gzip.compress(content, mtime=0)
    monkeypatch.setattr(mnist, "FILES", files)
    return TinyMnist(tmp_path / "mnist", packed, splits["train"], splits["test"])


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


@pytest.fixture(scope="session")
def official_dir() -> Path:
    """The folder of the four official files."""
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        pytest.skip("MNIST_DIR names no folder with the official MNIST files")
    return Path(folder)


@pytest.fixture(scope="session")
def official(official_dir) -> tuple[Split, Split]:
    """The official training and test images."""
    return mnist.load(official_dir, mirrors=())


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
