"""A run folder as training leaves it, made up, and checks of pictures."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mnist_jax import data
from mnist_jax.config import Experiment, to_json
from mnist_jax.evaluation import evaluate
from mnist_jax.runs import predictions
from mnist_jax.runs.predictions import Predictions
from tests.support.made_runs import write_run

EXAMPLES, EPOCHS = 400, 15
DIGITS = tuple("0123456789")
DEFAULTS = to_json(Experiment())


class FakeRun(NamedTuple):
    folder: Path
    images: np.ndarray
    labels: np.ndarray
    results: dict[str, Any]

    def rewrite_results(self, **changes: Any) -> None:
        """Change fields of results.json; None removes one."""
        results = {k: v for k, v in (self.results | changes).items() if v is not None}
        (self.folder / "results.json").write_text(json.dumps(results))


def make_epochs(
    total: int, phases: tuple[str, ...] = ("train",)
) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl of a training that goes well."""
    lines = []
    for epoch in range(1, total + 1):
        phase = phases[(epoch - 1) * len(phases) // total]
        train_errors = round(54_000 * 0.1 * 0.7**epoch)
        val_errors = round(6_000 * (0.01 + 0.03 * 0.8**epoch))
        common = {"epoch": epoch, "phase": phase}
        train = {"loss": 0.4 * 0.7**epoch + 1e-5, "accuracy": 1 - train_errors / 54_000}
        val = {
            "loss": 0.05 + 0.1 * 0.8**epoch + 0.001 * epoch,
            "accuracy": 1 - val_errors / 6_000,
        }
        about = {"learning_rate": 1e-3, "seconds": 7.1, "images_per_second": 7_500.0}
        lines.append(common | {"split": "train"} | train | about)
        lines.append(common | {"split": "val", "seconds": 0.6} | val)
    return lines


def make_run(
    folder: Path,
    classes: Sequence[str] = DIGITS,
    shape: tuple[int, int, int] = (28, 28, 1),
    *,
    noise: float = 3.0,
) -> FakeRun:
    """Write a finished run of a network that makes some mistakes."""
    folder.mkdir(parents=True)
    rng, count = np.random.default_rng(0), len(classes)
    labels = (np.arange(EXAMPLES) % count).astype(np.uint8)
    images = rng.integers(0, 256, (EXAMPLES, *shape), np.uint8)
    scores = 9 * np.eye(count)[labels]
    logits = {
        name: (scores + noise * rng.normal(size=scores.shape)).astype(np.float32)
        for name in ("last", "best")
    }
    tested = Predictions(labels, logits, data.images_sha256(images))
    held = {name: rows[:150] for name, rows in logits.items()}
    val = Predictions(labels[:150], held, "")
    predictions.write(folder / "predictions.npz", tested, val)
    found = {
        split: {
            n: evaluate(rows, one.labels, classes) for n, rows in one.logits.items()
        }
        for split, one in (("test", tested), ("val", val))
    }
    command = "python run.py --config=configs/lenet5.py --config.seed=7"
    environment = {"versions": {"jax": "0.10.2"}, "platform": "Linux-x86_64"}
    write_run(
        folder,
        accuracy=found["test"]["last"]["accuracy"],
        seed=7,
        config={"phases[0].epochs": EPOCHS},
        environment=environment | {"git_commit": None, "command": command},
        classes=list(classes),
        test_images_sha256=tested.images_sha256,
        epochs=EPOCHS,
        parameters_sha256="ab" * 32,
        **found,
    )
    (folder / "summary.txt").write_text("| layer | parameters |\n| conv | 156 |\n")
    lines = [json.dumps(line) + "\n" for line in make_epochs(EPOCHS)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    results = json.loads((folder / "results.json").read_text())
    return FakeRun(folder, images, labels, results)


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    return make_run(tmp_path / "run")


@pytest.fixture
def assert_readable(monkeypatch) -> Callable[..., list[str]]:
    """Return a function that checks a figure's texts, and returns them.

    Texts are inside the picture, and none is on another one.
    """

    def check(figure: Figure, *, at_least: int) -> list[str]:
        texts = []
        original = Text.draw

        def record(text, renderer):
            original(text, renderer)
            if text.get_visible() and text.get_text().strip():
                texts.append((text.get_text(), text.get_window_extent(renderer)))

        with monkeypatch.context() as patch:
            patch.setattr(Text, "draw", record)
            FigureCanvasAgg(figure).draw()
        assert len(texts) >= at_least
        width, height = figure.get_size_inches() * figure.dpi
        for text, box in texts:
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width
            assert inside and box.y1 <= height, f"{text!r} leaves the picture"
        for (one, box), (two, other) in itertools.combinations(texts, 2):
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) <= 0, f"{one!r} overlaps {two!r}"
        return [text for text, _ in texts]

    return check
