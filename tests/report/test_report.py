"""report.md and report.html: complete, true, self-contained, for any classes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import report
from mnist_jax.evaluation import calibration, log_softmax
from mnist_jax.report import figures, page, style
from mnist_jax.runs import predictions
from tests.report.conftest import DEFAULTS, FakeRun, make_epochs, make_run
from tests.report.test_render import HOSTILE, PIXEL, Reader

HOSTILE_CLASSES = (HOSTILE, "Ankle boot", "あ")
LETTERS = tuple(f"Letter {n}" for n in range(62))


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch):
    """Draw small pictures; those of other tests have all their pixels."""
    monkeypatch.setattr(style, "DPI", 10)


@pytest.fixture
def undrawn(monkeypatch):
    """Write pictures of one pixel, for pages whose pictures do not matter."""
    names = "curves", "confusion_matrix", "mistakes", "reliability"

    def save(_, path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PIXEL)

    monkeypatch.setattr(report, "_draw", lambda *_: dict.fromkeys(names))
    monkeypatch.setattr(figures, "save", save)


def write(run: FakeRun) -> tuple[str, Reader]:
    """Write the report, and return report.md and report.html."""
    report.write(run.folder, run.images, DEFAULTS)
    text = (run.folder / "report.md").read_text()
    return text, Reader((run.folder / "report.html").read_text())


@pytest.mark.parametrize(
    ("classes", "shape"),
    [(HOSTILE_CLASSES, (28, 28, 1)), (LETTERS, (8, 12, 3))],
    ids=["hostile", "letters"],
)
def test_the_page_has_the_numbers_of_the_results(tmp_path, classes, shape):
    run = make_run(tmp_path / "run", classes, shape)
    (run.folder / "figures").mkdir()
    for name in ("samples", "augmented"):  # drawn before training
        (run.folder / "figures" / f"{name}.png").write_bytes(PIXEL)
    text, found = write(run)
    for split, name in (("test", "Test"), ("val", "Validation")):
        for weights, scores in run.results[split].items():
            low, high = scores["accuracy_interval"]
            assert [
                *(name, weights, str(scores["examples"]), f"{scores['accuracy']:.4f}"),
                *(f"{low:.4f}-{high:.4f}", f"{scores['loss']:.3g}"),
            ] in found.rows
    for label, scores in enumerate(run.results["test"]["last"]["per_class"]):
        numbers = [f"{scores[name]:.4f}" for name in ("precision", "recall", "f1")]
        shown = " ".join(classes[label].split())
        assert [shown, *numbers, str(scores["support"])] in found.rows
    assert f"Test accuracy: {run.results['test_accuracy']:.4f}" in found.texts["p"][0]
    assert "script" not in found.tags
    # Every picture is linked once, and is in the page.
    linked = re.findall(r"\(figures/(\w+)\.png\)", text)
    drawn = {path.stem for path in (run.folder / "figures").iterdir()}
    assert len(linked) == len(drawn) and set(linked) == drawn
    assert drawn >= {"curves", "confusion_matrix", "mistakes", "reliability"}
    assert drawn >= {"samples", "augmented"}
    assert len(found.sources) == len(drawn)
    assert all(one.startswith("data:image/png;base64,") for one in found.sources)
    assert not [link for link in found.links if "://" in link and "arxiv" not in link]


def test_many_classes_have_their_most_frequent_confusions_listed(tmp_path, undrawn):
    run = make_run(tmp_path / "run", LETTERS, noise=4.0)
    _, found = write(run)
    confusion = np.array(run.results["test"]["last"]["confusion"])
    errors = confusion - np.diag(np.diag(confusion))
    start = found.rows.index(["True", "Predicted", "Images", "Of the true class"])
    listed = found.rows[start + 1 : start + 1 + page.CONFUSIONS_SHOWN]
    assert [int(row[2]) for row in listed] == sorted(errors.ravel())[:-16:-1]
    for true, predicted, count, _ in listed:
        assert errors[LETTERS.index(true), LETTERS.index(predicted)] == int(count)


def test_a_run_tested_on_validation_images_says_so_everywhere(fake_run, undrawn):
    fake_run.rewrite_results(tested_on="val", val=fake_run.results["test"])
    path = fake_run.folder / "config.json"
    path.write_text(path.read_text().replace('"test_on": "test"', '"test_on": "val"'))
    text, found = write(fake_run)
    # Except in the row of the option's default.
    text = text.replace('| `data.test_on` | `"val"` | `"test"` |', "")
    assert not re.search(r"\btests?\b", text, re.IGNORECASE)
    assert [row[:2] for row in found.rows if row[0] == "Validation"] == [
        ["Validation", "last"],
        ["Validation", "best"],
    ]


def test_the_page_lists_the_fields_that_are_not_the_defaults(fake_run, undrawn):
    path = fake_run.folder / "config.json"
    config = json.loads(path.read_text())
    config["phases"].append(config["phases"][0] | {"batch_size": 32, "freeze": ["a|`"]})
    path.write_text(json.dumps(config))
    _, found = write(fake_run)
    start = found.rows.index(["Field", "Value", "Default"])
    assert found.rows[start + 1 :] == [
        ["name", '"lenet5"', '"base"'],
        ["seed", "7", "0"],
        ["phases[0].epochs", "15", "50"],
        ["phases[1].epochs", "15", "50"],
        ["phases[1].batch_size", "32", "86"],
        ["phases[1].freeze[0]", '"a|`"', "-"],
    ]


@pytest.mark.parametrize("factor", [10.0, 0.2])
def test_the_page_says_whether_the_network_claims_too_much(fake_run, undrawn, factor):
    path = fake_run.folder / "predictions.npz"
    stored, val = predictions.read(path)
    logits = {name: factor * rows for name, rows in stored.logits.items()}
    predictions.write(path, stored._replace(logits=logits), val)
    text, _ = write(fake_run)
    claimed = np.exp(log_softmax(logits["last"])).max(axis=1).mean()
    low, high = fake_run.results["test"]["last"]["accuracy_interval"]
    side = "above" if claimed > high else "below" if claimed < low else "within"
    assert f"mean confidence is {claimed:.4f}, {side} the" in text
    held = val.logits["last"], val.labels
    numbers = calibration.assess(logits["last"], stored.labels, held)
    assert f"in 15 bins, is {numbers['ece']:.4f}." in text
    assert f"temperature of {numbers['temperature']:.3g}, fitted" in text


def test_a_run_without_mistakes_has_a_report(tmp_path):
    text, _ = write(make_run(tmp_path / "run", noise=0.1))
    assert "There are no mistakes" in text and "No temperature could be fitted" in text


def test_a_full_disk_leaves_the_old_report(fake_run, monkeypatch):
    (fake_run.folder / "report.md").write_text("the old page")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert (fake_run.folder / "report.md").read_text() == "the old page"
    assert not list(fake_run.folder.rglob("*.tmp"))


def test_report_md_is_written_last(fake_run):
    write(fake_run)
    newest = max(fake_run.folder.rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "report.md"


def test_imports_are_cheap_and_quiet(fake_run, tmp_path):
    """No Matplotlib before the first figure; no pyplot, no output, ever."""
    np.save(tmp_path / "images.npy", fake_run.images)
    program = """if True:
        import logging, sys
        from pathlib import Path
        import numpy as np
        logging.basicConfig(level=logging.WARNING)
        import mnist_jax.report
        assert not {"matplotlib", "jax", "jinja2", "markdown_it"} & sys.modules.keys()
        folder, images = Path(sys.argv[1]), np.load(sys.argv[2])
        mnist_jax.report.write(folder, images, {})
        assert "matplotlib.figure" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program]
        + [str(fake_run.folder), str(tmp_path / "images.npy")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


# -- tables and numbers


@pytest.mark.parametrize("phases", [("train",), ("head | 1", "all")])
def test_the_table_of_epochs_has_the_metrics(fake_run, undrawn, phases):
    lines = make_epochs(4, phases)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (fake_run.folder / "metrics.jsonl").write_text(text)
    _, found = write(fake_run)
    start = next(n for n, row in enumerate(found.rows) if row[0] == "Epoch")
    for row, train, val in zip(
        found.rows[start + 1 :], lines[::2], lines[1::2], strict=False
    ):
        assert row == [
            *([str(train["epoch"])] + [train["phase"]] * (len(phases) > 1)),
            *("0.001", f"{train['loss']:.3g}", f"{train['accuracy']:.4f}"),
            *(f"{val['loss']:.3g}", f"{val['accuracy']:.4f}", "7.7 s"),
        ]
