"""A run folder as training leaves it, made up: 400 test images, 15 epochs."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mnist_jax import report
from mnist_jax.evaluation import evaluate

EXAMPLES = 400
DEFAULTS = {
    "name": "base",
    "seed": 0,
    "phases": [{"name": "train", "epochs": 50, "batch_size": 86}],
}


class FakeRun(NamedTuple):
    folder: Path
    images: np.ndarray
    labels: np.ndarray
    results: dict[str, Any]

    def rewrite_results(self, **changes: Any) -> None:
        """Change fields of results.json; None removes one."""
        results = {k: v for k, v in (self.results | changes).items() if v is not None}
        (self.folder / "results.json").write_text(json.dumps(results))


def _make_logits(labels: np.ndarray, *, seed: int, noise: float) -> np.ndarray:
    """Return float32 [N, 10] in favour of the labels, with some mistakes."""
    rng = np.random.default_rng(seed)
    scores = 9 * np.eye(10)[labels] + noise * rng.normal(size=(len(labels), 10))
    return scores.astype(np.float32)


def _make_epochs(
    total: int, phases: tuple[str, ...] = ("train",)
) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl of a training that goes well."""
    lines = []
    for epoch in range(1, total + 1):
        phase = phases[(epoch - 1) * len(phases) // total]
        train_errors = round(54_000 * 0.1 * 0.7**epoch)
        val_errors = round(6_000 * (0.01 + 0.03 * 0.8**epoch))
        lines += [
            {
                "epoch": epoch,
                "phase": phase,
                "split": "train",
                "loss": 0.4 * 0.7**epoch + 1e-5,
                "accuracy": 1 - train_errors / 54_000,
                "learning_rate": 1e-3,
                "seconds": 7.1,
                "images_per_second": 7_500.0,
            },
            {
                "epoch": epoch,
                "phase": phase,
                "split": "val",
                "loss": 0.05 + 0.1 * 0.8**epoch + 0.001 * epoch,
                "accuracy": 1 - val_errors / 6_000,
                "seconds": 0.6,
            },
        ]
    return lines


@pytest.fixture
def make_logits() -> Callable[..., np.ndarray]:
    return _make_logits


@pytest.fixture
def make_epochs() -> Callable[..., list[dict[str, Any]]]:
    return _make_epochs


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    return _make_run(tmp_path / "run")


@pytest.fixture(scope="session")
def written_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """A run with its report, to look at only."""
    run = _make_run(tmp_path_factory.mktemp("runs") / "written")
    named = {"run": "lenet5 (seed 7)", "data": "mnist"}
    report.write_samples(run.folder, run.images, run.labels, **named)
    report.write(run.folder, run.images, DEFAULTS)
    return run


def _make_run(folder: Path) -> FakeRun:
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = (np.arange(EXAMPLES) % 10).astype(np.uint8)
    images = rng.integers(0, 256, (EXAMPLES, 28, 28, 1), np.uint8)
    logits = {
        "last": _make_logits(labels, seed=1, noise=3.0),
        "best": _make_logits(labels, seed=2, noise=2.8),
    }
    val = {f"val_{name}": rows[:150] for name, rows in logits.items()}
    arrays: dict[str, Any] = {"labels": labels, "val_labels": labels[:150]}
    arrays |= logits | val
    np.savez_compressed(folder / "predictions.npz", **arrays)
    test = {name: evaluate(rows, labels) for name, rows in logits.items()}
    val = {name: evaluate(rows[:150], labels[:150]) for name, rows in logits.items()}
    results = {
        "config": "lenet5",
        "model": "lenet5",
        "data": "mnist",
        "seed": 7,
        "parameters": 61_706,
        "epochs": 15,
        "best_epoch": 11,
        "best_monitor": "val_loss",
        "test_weights": "last",
        "test": test,
        "val": val,
        "test_accuracy": test["last"]["accuracy"],
        "train_seconds": 106.5,
        "wall_seconds": 118.2,
        "images_per_second": 7_512.3,
        "parameters_sha256": "ab" * 32,
    }
    phase = {"name": "train", "epochs": 15, "batch_size": 86}
    config = {"name": "lenet5", "seed": 7, "phases": [phase]}
    environment = {
        "versions": {"jax": "0.10.2", "python": "3.11.7"},
        "device": "cpu",
        "device_kind": "CPU",
        "device_count": 1,
        "cores": 2,
        "platform": "Linux-x86_64",
        "git_commit": None,
        "command": "python run.py --config=configs/lenet5.py --config.seed=7",
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "summary.txt").write_text("| layer | parameters |\n| conv | 156 |\n")
    lines = [json.dumps(line) + "\n" for line in _make_epochs(15)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return FakeRun(folder, images, labels, results)


@pytest.fixture
def drawn_texts(monkeypatch):
    """Return a function that draws a figure and lists each text with its box."""

    def draw(figure: Figure):
        found = []
        original = Text.draw

        def record(text, renderer):
            original(text, renderer)
            if text.get_visible() and text.get_text().strip():
                found.append((text.get_text(), text.get_window_extent(renderer)))

        with monkeypatch.context() as patch:
            patch.setattr(Text, "draw", record)
            figure.canvas.draw()
        return found

    return draw


@pytest.fixture
def assert_readable(drawn_texts):
    """Return a function that checks a figure's texts, and returns them."""

    def check(figure: Figure, *, at_least: int):
        texts = drawn_texts(figure)
        assert len(texts) >= at_least
        width, height = figure.get_size_inches() * figure.dpi
        for text, box in texts:
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width
            assert inside and box.y1 <= height, f"{text!r} leaves the picture"
        for (one, box), (two, other) in itertools.combinations(texts, 2):
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) <= 0, f"{one!r} lies on {two!r}"
        return [text for text, _ in texts]

    return check
