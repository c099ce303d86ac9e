"""Every parser of the project, with valid inputs to begin with."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sys

import h5py
import numpy as np
import safetensors.numpy
import skops.io
from absl import flags
from PIL import Image
from safetensors import safe_open
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from mnist_jax import experiment, photos
from mnist_jax.combine import classifier
from mnist_jax.commands import cli, train
from mnist_jax.config import Data, Experiment
from mnist_jax.data import idx, labelled, own, raster
from mnist_jax.demo import App, Corrections, Server
from mnist_jax.errors import UserError
from mnist_jax.pretrained import readers
from mnist_jax.report import compare, record
from mnist_jax.runs import environment, predictions
from mnist_jax.runs.checkpoint import Checkpoints
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import load
from tests.support.commands import ROOT
from tests.support.idx_files import encode

__all__ = ["UserError", "make"]


def make(name, run, folder):
    """A path, a function that reads this file, and valid contents.

    `run` is the folder of a finished run; `folder` is created.
    """
    copy, path = shutil.copytree(run, folder / "run"), folder / "input"
    if name == "idx":
        images, labels = np.ones((2, 3, 3), np.uint8), np.arange(3, dtype=np.int32)
        seeds = encode(images), encode(labels), gzip.compress(encode(images))
        return path, idx.read, seeds
    if name == "hdf5":
        with h5py.File(path, "w") as file:
            layer = file.create_group("dense")
            file.attrs["layer_names"], layer.attrs["weight_names"] = ["dense"], ["bias"]
            layer["bias"] = np.ones(9)
        return path, readers.read, [path.read_bytes()]
    if name == "pth":
        written = json.loads((ROOT / "tests/pretrained/torch_files.json").read_text())
        contents = written["a dict"]["files"].values()
        return path, readers.read, [base64.b64decode(text) for text in contents]
    if name == "safetensors":
        with safe_open(copy / "weights.safetensors", "numpy") as file:
            metadata = {k: v for k, v in file.metadata().items() if k != "sha256"}
        small = safetensors.numpy.save({"x": np.ones(3)}, metadata)
        return path, lambda path: readers.read(path) and load(path), [small]
    if name == "npz":
        images = np.ones((1, 28, 28), np.uint8)
        np.savez(copy / "x.npz", x_train=images, y_train=np.array([3]))
        data = Data(source="npz", dir=str(path))
        return path, lambda _: own.load(data), [(copy / "x.npz").read_bytes()]
    if name == "csv":
        row = ",".join(["0"] * 784)
        return path, own.read_csv, [f"3,{row}\n".encode(), f"{row}\n".encode()]
    if name == "labels":
        Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "a.png")
        seeds = [b"file,label,read_as\na.png,3,5\n"]
        return folder / "labels.csv", read_labels, seeds
    if name == "skops":
        rows, labels = np.arange(90.0).reshape(30, 3), np.arange(30) % 3
        kinds = RandomForestClassifier(2), HistGradientBoostingClassifier(max_iter=1)
        seeds = [skops.io.dumps(each.fit(rows, labels)) for each in kinds]
        return path, read_estimator, seeds
    if name == "checkpoint":

        def restore(path):
            shutil.rmtree(copy / "read", ignore_errors=True)
            shutil.copytree(folder / "checkpoints", copy / "read")
            with contextlib.closing(Checkpoints(copy / "read")) as opened:
                opened.restore()

        newest = max((run / "checkpoints").iterdir(), key=lambda x: int(x.name))
        shutil.copytree(newest, folder / "checkpoints" / newest.name)
        (path,) = (folder / "checkpoints").rglob("*.safetensors")
        return path, restore, [path.read_bytes()]
    here, ours = RunFolder(copy), Experiment(name="torture-lenet5")
    described = environment.describe()
    for file, read in (
        (here.config, lambda _: here.check_config(ours)),
        (here.environment, lambda path: environment.warn_if_changed(path, described)),
        (here.results, lambda _: compare.read([copy])),
        (here.metrics, lambda _: record.read(copy).epochs),
        (here.predictions, predictions.read),
    ):
        if file.stem == name:
            return file, read, [file.read_bytes()]
    if name == "overrides":
        fields = (
            "--config.seed=3",
            "--config.phases[0].freeze=('a',)",
            "--config.name=x",
        )
        return path, read_flags, ["\n".join(fields).encode()]
    image, pictures = Image.new("L", (40, 40), 255), []
    image.paste(0, (15, 10, 20, 30))
    for kind in raster.FORMATS:
        image.save(path, kind)
        pictures.append(path.read_bytes())
    if name == "pictures":
        return path, photos.find_digits, pictures
    assert name == "http"
    server = Server(
        App([load()], Corrections(folder / "kept")), host="127.0.0.1", port=0
    )
    grey = base64.b64encode(bytes(784)).decode()
    said = json.dumps({"image": grey, "label": "3", "read_as": "5"}).encode()
    seeds = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    bodies = {"predict": bytes(784), "read": pictures[0], "correct": said}
    for method, body in bodies.items():
        kind = "json" if method == "correct" else "octet-stream"
        head = f"POST /{method}?run=0 HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        head += f"application/{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        seeds.append(head.encode() + body)
    return path, lambda path: answer(server, path.read_bytes()), seeds


def read_labels(path):
    Corrections(path.parent)
    labelled.read_folder(path.parent)


def read_estimator(path):
    classifier._read(path, hashlib.sha256(path.read_bytes()).hexdigest())


def read_flags(path):
    """Each line is an argument."""
    lines = os.fsdecode(path.read_bytes()).replace("\0", "").splitlines()
    sys.argv = ["train", "--config=lenet5", *lines]
    flags.FLAGS.unparse_flags()
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        with contextlib.suppress(SystemExit):
            cli._parse(sys.argv)
            experiment.parse(train._CONFIG.value)


def answer(server, request):
    """Let a server answer a request that is not from a socket."""
    said = io.BytesIO()

    class Socket:
        makefile = staticmethod(lambda *_: io.BytesIO(request))
        settimeout = setsockopt = staticmethod(lambda *_: None)
        sendall = staticmethod(said.write)

    server.RequestHandlerClass(Socket(), ("127.0.0.1", 1), server)
    assert not said.getvalue().startswith(b"HTTP/1.1 500"), said.getvalue()
