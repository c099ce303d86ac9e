"""The whole report: what a reader finds in the run folder."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import PIL.Image
import pytest

from mnist_jax import report
from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration, evaluate, log_softmax
from mnist_jax.report import figures, markdown, page
from mnist_jax.report.inputs import read_run
from mnist_jax.report.sections import Text
from tests.report.conftest import DEFAULTS

FIGURES = [
    *("curves", "confusion_matrix", "confusion_matrix_normalized", "mistakes"),
    "reliability",
]


def render(fake_run) -> str:
    return markdown.render(page.build(read_run(fake_run.folder), FIGURES, DEFAULTS))


def test_writes_its_figures_and_its_page_and_nothing_else(fake_run, written_run):
    before = {path.name for path in fake_run.folder.rglob("*")}
    written = {path.name for path in written_run.folder.rglob("*")} - before
    names = {f"{name}.png" for name in (*FIGURES, "samples")}
    assert written == names | {"figures", "report.html", "report.md"}
    for path in (written_run.folder / "figures").iterdir():
        with PIL.Image.open(path) as image:
            assert image.width == 960
            darkness = 255 - np.asarray(image.convert("L"), np.float64)
        assert darkness.max() > 150 and 0.001 < (darkness > 20).mean() < 0.9


def test_the_page_links_to_all_figures_that_exist(written_run):
    text = (written_run.folder / "report.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all((written_run.folder / link).is_file() for link in links)
    linked = [Path(link).stem for link in links if link.startswith("figures/")]
    assert linked == [*FIGURES, "samples"]


def test_written_again_it_is_the_same_but_for_a_figure_that_is_missing(
    fake_run, written_run
):
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    for path in fake_run.folder.rglob("*.png"):
        again = written_run.folder / path.relative_to(fake_run.folder)
        assert path.read_bytes() == again.read_bytes()
    with_samples = (written_run.folder / "report.md").read_text()
    section = (
        "## Samples of the data\n\n![Samples of the data](figures/samples.png)\n\n"
    )
    assert section in with_samples
    without_samples = (fake_run.folder / "report.md").read_text()
    assert without_samples == with_samples.replace(section, "")


def test_the_summary_says_what_the_results_say(fake_run):
    results = fake_run.results
    text = page.summary(results)
    last, best = results["test"]["last"], results["test"]["best"]
    expected = ["61,706", "7", "15"]
    expected += [f"{results['test_accuracy']:.4f}", "95"]
    expected += [f"{bound:.4f}" for bound in last["accuracy_interval"]]
    expected += ["400", "11", f"{best['accuracy']:.4f}"]
    expected += [f"{bound:.4f}" for bound in best["accuracy_interval"]]
    expected += [f"{last['accuracy_first_half']:.4f}"]
    expected += [f"{last['accuracy_second_half']:.4f}"]
    without_names = re.sub(r"`[^`]*`", "", text)
    assert re.findall(r"\d[\d,.]*\d|\d", without_names) == expected
    assert "last epoch's weights. " in text
    assert (
        "best epoch's weights (epoch 11, chosen by the lowest validation loss)" in text
    )


def test_the_weights_that_count_are_those_of_the_config(fake_run):
    best = fake_run.results["test"]["best"]
    fake_run.rewrite_results(test_weights="best", test_accuracy=best["accuracy"])
    text = render(fake_run)
    _, accuracy, chosen = re.split(r"\*\*", text, maxsplit=2)
    assert accuracy == f"Test accuracy: {best['accuracy']:.4f}"
    assert chosen.index("best epoch's weights") < chosen.index("last epoch's weights")
    row = best["per_class"][3]
    assert re.search(
        rf"\| +3 \| +{row['precision']:.4f} \| +{row['recall']:.4f} ", text
    )


def test_figures_show_the_weights_that_count(fake_run, monkeypatch):
    shown = {}
    for name in ("confusion_matrix", "mistakes", "curves"):
        spy = mock.Mock(wraps=getattr(figures, name))
        monkeypatch.setattr(figures, name, spy)
        shown[name] = spy.call_args_list
    fake_run.rewrite_results(test_weights="best")
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    expected = fake_run.results["test"]["best"]["confusion"]
    counts, shares = shown["confusion_matrix"]
    for call in (counts, shares):
        np.testing.assert_array_equal(call.args[0], expected)
    about = {"run": "lenet5 (seed 7)", "subject": "test images of mnist"}
    assert shares.kwargs == about | {"normalized": True}
    assert shown["mistakes"][0].kwargs == about
    images, labels, logits = shown["mistakes"][0].args
    with np.load(fake_run.folder / "predictions.npz") as predictions:
        np.testing.assert_array_equal(logits, predictions["best"])
    np.testing.assert_array_equal(images, fake_run.images)
    np.testing.assert_array_equal(labels, fake_run.labels)
    assert shown["curves"][0].kwargs == about | {
        "subject": "mnist",
        "best_epoch": 11,
        "monitor": "val_loss",
    }


@pytest.mark.parametrize(
    ("data", "expected"), [("mnist", True), ("tfds", True), ("digits", False)]
)
def test_halves_are_told_only_where_they_mean_something(fake_run, data, expected):
    assert ("halves" in page.summary(fake_run.results | {"data": data})) is expected


def test_the_page_tells_how_to_repeat_the_run(fake_run):
    text = render(fake_run)
    assert (
        "```sh\npython run.py --config=configs/lenet5.py --config.seed=7\n```" in text
    )
    for part in ("1 x CPU, 2 CPU cores, Linux-x86_64", "jax 0.10.2", "ab" * 32):
        assert part in text
    assert "1 min 46 s, 7,512 images per second" in text and "1 min 58 s" in text
    assert "Git commit" not in text  # It is null.
    config = re.search(r"</summary>\n\n```json\n(.*?)\n```\n\n</det", text, re.DOTALL)
    assert config
    assert json.loads(config[1]) == json.loads(
        (fake_run.folder / "config.json").read_text()
    )
    assert "```\n| layer | parameters |\n| conv | 156 |\n```" in text


def test_accuracies_of_all_sets_and_weights_are_in_the_table(fake_run):
    text = render(fake_run)
    for split, title in (("test", "Test"), ("val", "Validation")):
        for weights, scores in fake_run.results[split].items():
            assert re.search(
                rf"\| {title} +\| {weights} +\| +{scores['examples']} "
                rf"\| +{scores['accuracy']:.4f} \| [\d.]+-[\d.]+ "
                rf"\| +{scores['loss']:.4f} \|",
                text,
            )


def test_a_run_tested_on_validation_images_says_so_everywhere(fake_run, monkeypatch):
    scores = fake_run.results["test"]
    fake_run.rewrite_results(tested_on="val", val=scores)
    subjects = []
    for name in ("confusion_matrix", "mistakes"):
        original = getattr(figures, name)

        def spy(*args, draw=original, **kwargs):
            subjects.append(kwargs["subject"])
            return draw(*args, **kwargs)

        monkeypatch.setattr(figures, name, spy)
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert subjects == ["validation images of mnist"] * 3
    text = (fake_run.folder / "report.md").read_text()
    assert not re.search(r"\btests?\b", text, re.IGNORECASE)
    rows = re.findall(r"^\| (\w+) +\| (last|best) ", text, re.MULTILINE)
    assert rows == [("Validation", "last"), ("Validation", "best")]


def test_the_page_lists_the_fields_that_are_not_the_defaults(fake_run):
    path = fake_run.folder / "config.json"
    config = json.loads(path.read_text())
    config["phases"].append(config["phases"][0] | {"batch_size": 32, "freeze": ["a"]})
    path.write_text(json.dumps(config))
    section = render(fake_run).partition("## Config\n\n")[2].partition("<details>")[0]
    cells = [re.split(r" *\| *", line)[1:4] for line in section.splitlines()[2:]]
    assert [row for row in cells if row] == [
        ["`name`", '`"lenet5"`', '`"base"`'],
        ["`seed`", "`7`", "`0`"],
        ["`phases[0].epochs`", "`15`", "`50`"],
        ["`phases[1].epochs`", "`15`", "`50`"],
        ["`phases[1].batch_size`", "`32`", "`86`"],
        ["`phases[1].freeze[0]`", '`"a"`', "-"],
    ]


def calibrated(fake_run, logits, labels, **results):
    """Return the section about calibration of a run with these test logits."""
    found = calibration.assess(logits, labels, (logits, labels))
    fake_run.rewrite_results(test={"last": evaluate(logits, labels)}, **results)
    run = read_run(fake_run.folder)
    content = page.build(run, FIGURES, DEFAULTS, found)
    (section,) = [s for s in content.sections if s.title == "Calibration"]
    assert isinstance(text := section.blocks[0], Text)
    return found, text.text


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(10.0, "is above .*: it is over"), (0.2, "is below .*: it is under")],
)
def test_the_page_says_whether_the_network_claims_too_much(
    fake_run, make_logits, factor, verdict
):
    logits = factor * make_logits(fake_run.labels, seed=1, noise=3.0)
    found, text = calibrated(fake_run, logits, fake_run.labels)
    assert re.search(verdict, text)
    claimed = np.exp(log_softmax(logits)).max(axis=1).mean()
    assert f"mean confidence, {claimed:.4f}, is" in text
    assert f"in 15 bins, is {found['ece']:.4f}." in text
    assert f"temperature of {found['temperature']:.3g}, fitted" in text
    assert f"images, it is {found['ece_scaled']:.4f};" in text
    assert found["ece_scaled"] < found["ece"]


def test_the_page_says_why_there_is_no_temperature(fake_run, make_logits):
    logits = make_logits(fake_run.labels, seed=1, noise=0.1)  # without a mistake
    _, text = calibrated(fake_run, logits, fake_run.labels)
    assert "No temperature is fitted, since the loss" in text


def test_a_run_without_validation_logits_has_no_section_on_calibration(fake_run):
    path = fake_run.folder / "predictions.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in ("labels", "last", "best")}
    np.savez(path, **kept)
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert "Calibration" not in (fake_run.folder / "report.md").read_text()
    assert not (fake_run.folder / "figures" / "reliability.png").exists()


def test_a_run_of_several_phases_on_other_data(fake_run, make_epochs):
    lines = make_epochs(40, ("head", "fine-tuning"))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (fake_run.folder / "metrics.jsonl").write_text(text)
    fake_run.rewrite_results(data="digits", model="vgg16", best_monitor="train_loss")
    page_text = render(fake_run)
    assert "# lenet5: vgg16 on digits" in page_text
    assert "by the lowest training loss. A selection." in page_text
    assert re.search(r"\| +20 \| head ", page_text)


def test_images_of_another_set_are_refused(fake_run):
    with pytest.raises(UserError, match=r"predictions\.npz is about 400 .* has 399"):
        report.write(fake_run.folder, fake_run.images[1:], DEFAULTS)


def test_a_damaged_folder_is_refused_before_anything_is_written(fake_run):
    (fake_run.folder / "metrics.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert not (fake_run.folder / "figures").exists()
    assert not (fake_run.folder / "report.md").exists()


def test_a_full_disk_leaves_the_old_report(fake_run, monkeypatch):
    (fake_run.folder / "report.md").write_text("the old page")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert (fake_run.folder / "report.md").read_text() == "the old page"
    assert not list(fake_run.folder.rglob("*.tmp"))


def test_imports_are_cheap_and_quiet(fake_run, tmp_path):
    """No matplotlib before the first figure; no pyplot, no output, ever."""
    np.save(tmp_path / "images.npy", fake_run.images)
    program = """if True:
        import logging, sys
        from pathlib import Path
        import numpy as np
        logging.basicConfig(level=logging.WARNING)
        import mnist_jax.report
        assert "matplotlib" not in sys.modules
        assert "jax" not in sys.modules
        folder, images = Path(sys.argv[1]), np.load(sys.argv[2])
        mnist_jax.report.write(folder, images, {})
        labels = np.arange(len(images)) % 10
        mnist_jax.report.write_samples(folder, images, labels, run="x", data="mnist")
        assert "matplotlib.figure" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
        assert logging.getLogger("matplotlib").level == logging.NOTSET
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program]
        + [str(fake_run.folder), str(tmp_path / "images.npy")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
