"""Which runs count together, and that findings depend on the runs alone."""

import re
import shutil
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax.errors import UserError
from mnist_jax.report import compare
from mnist_jax.report.compare import findings, groups, publish
from tests.support.made_runs import (
    scores,
    shown,
    tables_of,
    write_run,
)

ACCURACIES = {
    "lenet5": [0.987, 0.988, 0.986],
    "lenet5-fast": [0.9872, 0.9881, 0.9864],
    "lenet5-tuned": [0.994, 0.9945, 0.9935],
    "wide-tuned": [0.9941, 0.9938, 0.9943],
}


def write_all(folder, accuracies=ACCURACIES):
    return [
        write_run(
            folder / name / f"seed{seed}",
            accuracy=accuracy,
            seed=seed,
            config={"name": name},
            model=name.partition("-")[0],
            val={"last": scores(0.9 + len(name) / 100), "best": scores(0.5)},
        )
        for name, each in accuracies.items()
        for seed, accuracy in enumerate(each)
    ]


def everything(found):
    parts = publish.as_markdown(found)
    return "\n\n".join(
        parts[name] for name in ("results", "separated by seeds", "every run")
    )


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_findings_do_not_depend_on_the_order_of_folders_or_rows(
    tmp_path_factory, random
):
    root = tmp_path_factory.mktemp("runs")
    folders = write_all(root)
    folders.append(write_run(root / "again", accuracy=0.5, config={"name": "lenet5"}))
    expected = compare.read(folders)
    random.shuffle(folders)
    found = compare.read(folders)
    random.shuffle(found.groups)
    assert findings.findings(found.groups) == findings.findings(expected.groups)
    assert found.notes == expected.notes
    assert {group.key: group for group in found.groups} == {
        group.key: group for group in expected.groups
    }


@settings(max_examples=10, deadline=None)
@given(st.permutations(list(ACCURACIES.values())))
def test_pairs_do_not_depend_on_test_accuracies(tmp_path_factory, accuracies):
    root = tmp_path_factory.mktemp("runs")
    write_all(root, dict(zip(ACCURACIES, accuracies, strict=True)))
    groups = compare.read([root]).groups
    names = [(a.first.name, b.first.name) for a, b in findings.pairs(groups)]
    assert names == [
        ("lenet5-fast", "lenet5"),
        ("lenet5-tuned", "lenet5"),
        ("lenet5-tuned", "wide-tuned"),  # each network's best by validation
    ]


def test_findings_are_scipys_with_holms_correction(tmp_path):
    write_all(tmp_path)
    found = findings.findings(compare.read([tmp_path]).groups)
    theirs: list[Any] = [
        scipy.stats.ttest_ind(
            ACCURACIES[one.first.first.name],
            ACCURACIES[one.second.first.name],
            equal_var=False,
        )
        for one in found
    ]
    order = np.argsort([test.pvalue for test in theirs])
    corrected = np.maximum.accumulate(
        [min(1, (3 - k) * theirs[place].pvalue) for k, place in enumerate(order)]
    )
    for p, place in zip(corrected, order, strict=True):
        difference, test = found[place].difference, theirs[place]
        assert difference.p == pytest.approx(p)
        interval = [100 * end for end in test.confidence_interval(0.95)]
        assert difference.interval == pytest.approx(interval)
    verdicts = [one.verdict for one in found]
    assert verdicts == ["not separated", "A is higher", "not separated"]
    [rows] = tables_of(findings.table(compare.read([tmp_path]).groups).markdown())
    assert [row["Verdict"] for row in rows] == verdicts
    assert rows[1]["A - B"] == "0.70"


def test_only_experiments_on_the_same_images_are_paired(tmp_path):
    write_run(tmp_path / "a")
    for images, same in (("a", True), ("b", False)):
        tuned = {"config": {"name": "lenet5-tuned"}, "test_images_sha256": images}
        write_run(tmp_path / "b", **tuned)
        assert bool(findings.pairs(compare.read([tmp_path]).groups)) == same


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 7),
        ("data.dir", "/elsewhere"),
        ("data.mirrors", ["https://mirror/"]),
        ("steps_per_call", 5),
        ("convolutions", "xla"),
        ("parallel", "pmap"),
        ("eval_batch_size", 5),
        ("features_megabytes", 5),
        ("report_accuracy", 0.5),
        ("log.tensorboard", True),
    ],
)
def test_fields_that_change_no_result_do_not_separate_runs(tmp_path, field, value):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, config={field: value})
    [group] = compare.read([tmp_path]).groups
    assert len(group.runs) == 2 and group.label == "lenet5"


@pytest.mark.parametrize(
    ("field", "value", "here", "there"),
    [
        ("phases[0].epochs", 5, "phases[0].epochs=50", "phases[0].epochs=5"),
        ("test_weights", "best", "test_weights=last", "test_weights=best"),
    ],
)
def test_configs_that_differ_are_rows_named_by_the_fields(
    tmp_path, field, value, here, there
):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", config={field: value})
    found = compare.read([tmp_path])
    labels = {f"lenet5 ({one})" for one in (here, there)}
    assert {group.label for group in found.groups} == labels
    assert f"| lenet5 ({here})" in everything(found).replace("\\", "")
    assert f"lenet5 ({here})" in shown(found, 200)


@pytest.mark.parametrize(
    "change", [{}, {"accuracy": 0.97}, {"parameters_sha256": "other"}]
)
def test_a_seed_with_several_runs_counts_once_and_a_note_says_so(tmp_path, change):
    write_run(tmp_path / "a", accuracy=0.98)
    write_run(tmp_path / "b", **{"accuracy": 0.98} | change)
    found = compare.read([tmp_path / "b", tmp_path / "a"])
    assert found.groups[0].accuracies == [0.98]
    [note] = found.notes
    assert re.fullmatch(r"lenet5, seed 0, .* first of: .*/a \(0.98.*/b \(0.9.*", note)
    for output in (everything(found).replace("\\", ""), shown(found, 1000)):
        assert note in output


def test_experiments_that_differ_in_one_number_are_a_series(tmp_path):
    """And only networks that were trained on as many images are compared."""
    for name, sizes in {"lenet5": (1000, 20, 300, 0), "wide": (20, 300)}.items():
        for size in sizes:
            config = {"name": f"{name}-train_size={size}", "data.train_size": size}
            for seed in (0, 1):
                folder = tmp_path / f"{name}{size}" / f"seed{seed}"
                subset = config | {"data.subset_seed": seed, "report_accuracy": 0.9}
                write_run(folder, accuracy=0.9, seed=seed, config=subset, model=name)
    found = compare.read([tmp_path])
    [series] = groups.series(found.groups)
    assert (series.field, series.name) == ("data.train_size", "lenet5")
    assert series.values == [group.train_size for group in series.groups]
    assert series.values == [20, 300, 1000]  # of all images there is no number
    assert [len(group.runs) for group in series.groups] == [2] * 3
    for group in found.groups:  # the report's networks saw all images
        assert (group.report_accuracy is None) == bool(group.train_size)
    pairs = findings.pairs(found.groups)
    assert [(a.train_size, b.train_size) for a, b in pairs] == [(20, 20), (300, 300)]


def test_accuracies_on_test_and_on_validation_images_are_kept_apart(tmp_path):
    published = {"report_accuracy": 0.9897}
    write_run(tmp_path / "a", accuracy=0.95, config=published)
    chosen = published | {"data.test_on": "val"}
    on_val: dict[str, Any] = {"tested_on": "val", "test_images_sha256": "b"}
    write_run(tmp_path / "v", accuracy=0.98, config=chosen, **on_val)
    found = compare.read([tmp_path])
    rows, every = tables_of(everything(found))
    assert [row["Network"] for row in rows] == [
        "lenet5",
        "lenet5 (on validation images)",
    ]
    # Only the first is comparable with the report's figure.
    assert [row["Report"] for row in rows] == ["0.9897", "-"]
    assert [row["Test"] for row in every] == ["0.9500", "-"]
    assert not findings.pairs(found.groups)


def test_other_predictors_than_networks_have_rows(tmp_path):
    write_run(tmp_path / "a", accuracy=0.95)
    missing: dict[str, Any] = dict.fromkeys(
        ["epochs", "test_weights", "train_seconds", "model", "parameters", "val"], ...
    )
    fields = {"kind": "ensemble", "test": {"accuracy": 0.97, "examples": 100}}
    write_run(
        tmp_path / "b", accuracy=0.97, config={"name": "five"}, **fields, **missing
    )
    (tmp_path / "b" / "config.json").write_text('{"members": ["a"]}')
    found = compare.read([tmp_path])
    rows, pairs, every = tables_of(everything(found))
    assert [row["Accuracy"] for row in rows] == ["0.9700", "0.9500"]
    assert rows[0]["Network"] == "five (ensemble)" and rows[0]["Epochs"] == "-"
    assert every[0]["Test"] == "0.9700" and len(pairs) == 1
    assert "five" in shown(found, 80)


def test_numbers_in_the_tables_are_those_of_the_files(tmp_path):
    write_all(tmp_path)
    found = compare.read([tmp_path])
    rows, _, every = tables_of(everything(found))
    for row, (name, values) in zip(rows, ACCURACIES.items(), strict=True):
        mean, sd = np.mean(values), np.std(values, ddof=1)
        assert row["Network"] == name and row["n"] == "3"
        assert row["Accuracy"] == f"{mean:.4f} ± {sd:.4f}"
        assert (row["Parameters"], row["Epochs"]) == ("61,706", "50")
        assert (row["Time"], row["Hardware"]) == ("9 min", "CPU, 2 cores")
    assert [float(row["Test"]) for row in every] == sum(ACCURACIES.values(), [])
    assert max(map(len, shown(found, 60).splitlines())) <= 60


def test_runs_are_found_at_any_depth_once(tmp_path):
    folder = write_run(tmp_path / "x" / "seed1")
    write_run(tmp_path / "x" / "seed1" / "checkpoints" / "copy", seed=5)
    write_run(tmp_path / ".trash" / "run", seed=5)
    found = compare.read([folder, tmp_path, tmp_path / "x" / ".." / "x" / "seed1"])
    assert [run.seed for group in found.groups for run in group.runs] == [0]
    assert found.notes == []
    moved = shutil.copytree(tmp_path / "x", tmp_path / "y" / "z")
    assert len(compare.read([moved]).groups) == 1


def test_an_unfinished_run_is_named(tmp_path):
    write_run(tmp_path / "a")
    (write_run(tmp_path / "b", seed=1) / "results.json").unlink()
    found = compare.read([tmp_path])
    assert len(found.groups[0].runs) == 1
    assert found.notes == [f"Not finished: {tmp_path / 'b'}."]
    with pytest.raises(UserError, match=f"No run is finished: {tmp_path / 'b'}"):
        compare.read([tmp_path / "b"])


@pytest.mark.parametrize("name", ["config", "environment", "results"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_damaged_runs_are_skipped_and_named(tmp_path, name, content):
    write_run(tmp_path / "good", seed=1)
    path = write_run(tmp_path / "bad") / f"{name}.json"
    path.write_bytes(content.encode("latin-1"))
    found = compare.read([tmp_path])
    assert [run.seed for group in found.groups for run in group.runs] == [1]
    [note] = found.notes
    assert note.startswith("Skipped: ") and str(path) in note and "\n" not in note
    with pytest.raises(UserError, match=re.escape(str(path))):
        compare.read([tmp_path / "bad"])


def test_a_run_with_an_impossible_config_is_skipped(tmp_path):
    write_run(tmp_path / "good", seed=1)
    path = write_run(tmp_path / "bad", config={"newer": 1}) / "config.json"
    found = compare.read([tmp_path])
    assert [run.seed for group in found.groups for run in group.runs] == [1]
    [note] = found.notes
    assert note.startswith(f"Skipped: {path}: ") and "newer" in note
