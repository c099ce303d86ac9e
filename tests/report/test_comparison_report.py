"""Which differences seeds bear out, the page of a comparison, and LaTeX."""

import json
import re
import shutil
from html import unescape
from typing import Any

import numpy as np
import pytest
import scipy.stats

from mnist_jax import config as configs
from mnist_jax import data
from mnist_jax.report import comparison
from mnist_jax.report.comparison import answers, figures, latex, page, separation
from tests.support.made_runs import tables_of, write_run

ACCURACIES = {
    "lenet5": [0.987, 0.988, 0.986],
    "lenet5-tuned": [0.994, 0.9945, 0.9935],
    "wide": [0.9941, 0.9938, 0.9943],
}


@pytest.fixture(scope="module")
def labels():
    _, test = data.read(configs.Data(source="digits"))
    return test.labels


@pytest.fixture(scope="module")
def runs(labels, tmp_path_factory):
    """Three experiments with three seeds each, on the embedded digits."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for name, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            run = write_run(
                folder / name / f"seed{seed}",
                accuracy=accuracy,
                seed=seed,
                config={"name": name, "data.source": "digits", "data.val_size": 200},
                data="digits",
                model="wide" if name == "wide" else "lenet5",
            )
            logits = 4 * np.eye(10)[labels] + rng.normal(size=(len(labels), 10))
            if name == "wide":
                logits[5, labels[5]] = -9  # Only this network errs there.
            logits[8, labels[8]] = -9  # All do.
            arrays = {"labels": labels, "last": logits, "best": -logits}
            np.savez(run / "predictions.npz", **arrays)
            lines = [
                {"epoch": epoch, "split": split, "accuracy": 1 - 0.1 / epoch}
                for epoch in (1, 2, 3)
                for split in ("train", "val")
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (run / "metrics.jsonl").write_text(text)
    return folder


def test_seeds_separate_or_do_not(runs):
    groups = comparison.read([runs]).groups
    first, second = separation.findings(groups)
    theirs: list[Any] = [
        scipy.stats.ttest_ind(ACCURACIES[a], ACCURACIES[b], equal_var=False)
        for a, b in (("lenet5-tuned", "lenet5"), ("wide", "lenet5"))
    ]
    assert (first.higher, first.lower) == ("lenet5-tuned (lenet5)", "lenet5")
    assert first.difference and second.difference
    assert first.separated and first.gap == pytest.approx(0.7)
    assert first.difference.p == pytest.approx(2 * theirs[0].pvalue)  # of two pairs
    low, high = theirs[0].confidence_interval(0.95)
    assert first.difference.interval == pytest.approx((100 * low, 100 * high))
    # The made runs have one validation accuracy: a network's best is its first.
    assert (second.higher, second.lower) == ("wide", "lenet5")
    assert second.difference.p == pytest.approx(theirs[1].pvalue)
    lines = separation.sentences(groups)
    assert re.search(r"is above lenet5 by 0\.70 points .*separate them", lines[0])
    assert "corrected for 2 pairs" in lines[-1]

    [none] = separation.findings(groups[1:])
    assert not none.separated
    text = separation.sentences(groups[1:])[0]
    assert "are not separated by 3 and 3 seeds" in text and "above" not in text
    rows = tables_of(separation.table(groups))[0]
    assert [row["Separated"] for row in rows] == ["yes", "yes"]


def test_single_seeds_separate_nothing(runs):
    groups = comparison.read([runs / name / "seed0" for name in ACCURACIES]).groups
    assert not any(one.separated for one in separation.findings(groups))
    [line] = separation.sentences(groups)
    assert "want of two seeds" in line and "above" not in line
    assert not separation.sentences(groups[:1])


def test_only_what_was_tested_on_the_same_images_is_paired(runs, tmp_path):
    write_run(tmp_path / "a", config={"name": "other"})
    groups = comparison.read([runs, tmp_path]).groups
    assert [group.first.name for group in groups][-1] == "other"
    assert separation.pairs(groups) == separation.pairs(groups[:-1])


def test_the_page_has_all_and_needs_nothing_else(runs, tmp_path, assert_readable):
    found = comparison.read([runs])
    names = page.write(found, tmp_path / "page")
    assert names == ["comparison.md", "comparison.html"]
    markdown = (tmp_path / "page" / "comparison.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    drawn = ["accuracy", "cost", "curves", "mistakes"]
    assert pictures == [f"figures/{name}.png" for name in drawn]
    assert all((tmp_path / "page" / name).exists() for name in pictures)
    whole = (tmp_path / "page" / "comparison.html").read_text()
    assert whole.count('src="data:image/png;base64,') == 4
    assert "<table>" in whole and ".png" not in whole
    titles = re.findall("^## (.*)", markdown, re.M)
    assert titles == [unescape(each) for each in re.findall("<h2>(.*)</h2>", whole)]
    assert not re.search(r'(src|href)="(?!data:)', whole)

    both, notes = answers.read(found)
    assert both is not None and not notes
    # Of "best" weights, which do not count, all would be wrong.
    assert both.wrong_by_all().tolist() == [8]
    wide = both.names.index("wide, seed 0")
    assert 5 in both.wrong_by_only(wide)
    images = answers.images(both)
    assert_readable(figures.mistakes(both, images), at_least=5)
    for draw in (figures.accuracy, figures.cost):
        assert_readable(draw(found.groups), at_least=8)
    curves = figures.curves(found.groups, {0: {1: 0.9, 2: 0.99}})
    assert_readable(curves, at_least=4)
    assert all(tick.is_integer() for tick in curves.axes[0].get_xticks())
    header, rows = answers.mcnemar_rows(both)
    assert len(header) == 4 and [row[k + 1] for k, row in enumerate(rows)] == [""] * 3


def test_mcnemar_is_symmetric_and_corrected(runs):
    both, _ = answers.read(comparison.read([runs]))
    assert both is not None
    for (a, b), one in both.mcnemar().items():
        right = both.right
        assert one.only_first == (right[a] & ~right[b]).sum()
        assert one.only_second == (right[b] & ~right[a]).sum()
        plain = scipy.stats.binomtest(one.only_first, one.only_first + one.only_second)
        assert plain.pvalue <= one.p <= min(1, 3 * plain.pvalue) + 1e-12


def test_published_runs_have_a_page_too(runs, tmp_path):
    for path in runs.glob("*/seed[01]/*.json"):
        target = tmp_path / "published" / path.relative_to(runs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    page.write(comparison.read([tmp_path / "published"]), tmp_path / "page")
    markdown = (tmp_path / "page" / "comparison.md").read_text()
    assert "No run has its metrics.jsonl" in markdown
    assert "needs predictions.npz of two" in markdown
    assert "No predictions.npz, hence not here: lenet5, " in markdown
    assert "McNemar" not in markdown


def test_latex_is_escaped(tmp_path):
    write_run(tmp_path / "a", config={"name": r"50%_{a}&b\c~^#$"}, accuracy=0.9)
    write_run(tmp_path / "b", config={"name": "b"})
    text = latex.to_latex(comparison.read([tmp_path]))
    name = r"50\%\_\{a\}\&b\textbackslash{}c\textasciitilde{}\textasciicircum{}\#\$"
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0].startswith(r"\begin{tabular}{l") and body[-1] == r"\end{tabular}"
    assert [body[1], body[3], body[-2]] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert any(line.startswith(name) for line in body)
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in body if r" \\" in line}
    assert len(columns) == 1
    [sides] = re.findall(r"\{tabular\}\{(l\w+)\}", text)
    assert len(sides) == columns.pop() + 1
