"""Which runs count together, and what they come to."""

import csv
import io
import json
import re
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax.report import comparison
from mnist_jax.report.comparison import groups, text
from tests.conftest import ROOT
from tests.support.made_runs import shown, tables_of, write_run


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_statistics_are_those_of_the_sample(values):
    found = groups.summarize(values)
    assert found.n == len(values)
    assert (found.worst, found.best) == (min(values), max(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.worst <= found.mean <= found.best
    if len(values) == 1:
        assert found.sd is None
    else:
        assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert found.sd == statistics.stdev(values)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)))
def test_rows_do_not_depend_on_the_order_but_their_order_does(tmp_path_factory, order):
    root = tmp_path_factory.mktemp("runs")
    folders = [
        write_run(root / "a", accuracy=0.97, seed=10),
        write_run(root / "b", accuracy=0.99, seed=2),
        write_run(root / "c", accuracy=0.98, seed=2, config={"name": "other"}),
        write_run(root / "d", accuracy=0.96, seed=3),
    ]
    found = comparison.read([folders[place] for place in order])
    by_name = {group.first.name: group for group in found.groups}
    assert [run.seed for run in by_name["lenet5"].runs] == [2, 3, 10]
    assert by_name["lenet5"].accuracy == groups.summarize([0.97, 0.99, 0.96])
    assert by_name["other"].accuracy.n == 1
    assert found.notes == []
    expected = dict.fromkeys("other" if place == 2 else "lenet5" for place in order)
    assert list(by_name) == list(expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 7),
        ("data.dir", "/elsewhere"),
        ("data.mirrors", ["https://mirror/"]),
        ("data.source", "tfds"),
        ("steps_per_call", 5),
        ("convolutions", "xla"),
        ("parallel", "pmap"),
        ("eval_batch_size", 5),
        ("features_megabytes", 5),
        ("report_accuracy", 0.5),
        ("log.tensorboard", True),
    ],
)
def test_what_changes_no_result_does_not_part_runs(tmp_path, field, value):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, config={field: value})
    [group] = comparison.read([tmp_path]).groups
    assert group.accuracy.n == 2
    assert group.differences == ()


def test_runs_of_every_earlier_version_are_one_experiment(tmp_path):
    earlier = json.loads((ROOT / "tests/config/earlier_configs.json").read_text())
    for seed, stored in enumerate(earlier.values()):
        folder = write_run(tmp_path / str(seed), seed=seed)
        (folder / "config.json").write_text(json.dumps(stored | {"seed": seed}))
    write_run(tmp_path / "now", seed=len(earlier))
    [group] = comparison.read([tmp_path]).groups
    assert group.accuracy.n == len(earlier) + 1
    assert group.differences == ()


@pytest.mark.parametrize(
    ("field", "value", "here", "there"),
    [
        ("phases[0].epochs", 5, "phases[0].epochs=50", "phases[0].epochs=5"),
        ("data.split_seed", 5, "data.split_seed=0", "data.split_seed=5"),
        ("test_weights", "best", "test_weights=last", "test_weights=best"),
        ("augment", ..., "", "no augment"),
        ("augment.zoom", ..., "augment.zoom=0.0", "no augment.zoom"),
    ],
)
def test_configs_that_differ_are_rows_named_by_the_fields(
    tmp_path, field, value, here, there
):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=0, config={field: value})
    found = comparison.read([tmp_path])
    differences = [", ".join(group.differences) for group in found.groups]
    assert differences[1] == there
    assert here in differences[0]
    if here:
        assert f"| lenet5 ({there})" in text.to_markdown(found)
        assert there in shown(found, 200)


def test_many_differences_go_to_a_footnote(tmp_path):
    write_run(tmp_path / "a")
    changes = {"phases[0].epochs": 1, "phases[0].batch_size": 2, "data.val_size": 3}
    write_run(tmp_path / "b", config=changes)
    found = comparison.read([tmp_path])
    markdown = text.to_markdown(found)
    assert [row["Network"] for row in tables_of(markdown)[0]] == [
        "lenet5 [1]",
        "lenet5 [2]",
    ]
    [note] = [line for line in markdown.splitlines() if line.startswith("lenet5 [2]")]
    assert set(note.removesuffix(".").replace("lenet5 [2]: ", "").split(", ")) == {
        "data.val_size=3",
        "phases[0].batch_size=2",
        "phases[0].epochs=1",
    }
    assert "lenet5 [2]: " in shown(found, 200)


def test_an_object_that_was_empty_is_named_by_what_is_in_it_now(tmp_path):
    write_run(tmp_path / "a", config={"augment": {}})
    write_run(tmp_path / "b", config={"augment": {"zoom": 0.1}})
    found = comparison.read([tmp_path])
    assert [group.differences for group in found.groups] == [
        ("augment={}", "no augment.zoom"),
        ("augment.zoom=0.1",),
    ]


def test_a_seed_with_several_runs_counts_once_and_one_note_a_kind_says_so(tmp_path):
    for name in ("a0", "b0", "c0"):
        write_run(tmp_path / name, accuracy=0.98)
    write_run(tmp_path / "a1", seed=1, accuracy=0.97)
    write_run(tmp_path / "b1", seed=1, accuracy=0.96, config={"parallel": "pmap"})
    config = {"name": "other"}
    for name in ("a2", "b2"):
        write_run(tmp_path / name, seed=2, accuracy=0.95, config=config)
    found = comparison.read([tmp_path])
    first, other = found.groups
    assert first.accuracy == groups.summarize([0.98, 0.97])
    assert other.accuracy == groups.summarize([0.95])
    same, different = found.notes
    assert re.search("same: lenet5 seed 0 .*/a0, .*/b0, .*/c0.; other seed 2 ", same)
    assert re.search(
        "first of .*: lenet5 seed 1 .0.9700 in .*/a1, 0.9600 in .*/b1..$", different
    )
    for output in (text.to_markdown(found), shown(found, 1000)):
        assert same in output and different in output


@pytest.mark.parametrize(
    "change", [{"accuracy": 0.97}, {"accuracy": 0.98, "parameters_sha256": "other"}]
)
def test_results_agree_only_in_accuracy_and_weights(tmp_path, change):
    write_run(tmp_path / "a", accuracy=0.98)
    write_run(tmp_path / "b", **change)
    [note] = comparison.read([tmp_path]).notes
    assert "first of several results" in note


def test_accuracies_on_test_and_on_validation_images_are_kept_apart(tmp_path):
    published = {"report_accuracy": 0.9897}
    write_run(tmp_path / "a", accuracy=0.95, config=published)
    chosen = published | {"data.test_on": "val"}
    # The second names its data as earlier versions did.
    for seed, accuracy, data in (
        (0, 0.98, "mnist"),
        (1, 0.96, "mnist validation images"),
    ):
        fields = {"seed": seed, "accuracy": accuracy, "data": data}
        write_run(tmp_path / f"v{seed}", config=chosen, **fields)
    found = comparison.read([tmp_path])
    assert found.notes == []
    assert [group.accuracy.mean for group in found.groups] == [0.95, 0.97]
    rows, every = tables_of(text.to_markdown(found))
    assert [row["Network"] for row in rows] == [
        "lenet5",
        "lenet5 (on validation images)",
    ]
    # Only one may stand beside the report's figure.
    assert [row["Mean"] for row in rows] == ["0.9500", "0.9700"]
    assert [row["The report (one run)"] for row in rows] == ["0.9897", "-"]
    assert [row["Test, last weights"] for row in every] == ["0.9500", "-", "-"]
    assert re.search("MNIST and validation images of mnist, mean", shown(found, 1000))
    rows = list(csv.DictReader(io.StringIO(text.to_csv(found))))
    assert [row["tested_on"] for row in rows] == ["test", "val"]


def test_the_same_images_from_another_source_are_the_same_data(tmp_path):
    write_run(tmp_path / "a", accuracy=0.9, config={"name": "a"})
    fields = {"data": "tfds", "config": {"name": "b", "data.source": "tfds"}}
    write_run(tmp_path / "b", accuracy=0.8, **fields)
    rows, _ = tables_of(text.to_markdown(comparison.read([tmp_path])))
    assert [row["Mean"] for row in rows] == ["0.9000", "0.8000"]
    assert "Data" not in rows[0]


def test_a_folder_named_twice_is_one(tmp_path):
    folder = write_run(tmp_path / "a" / "run")
    again = tmp_path / "a" / ".." / "a" / "run"
    found = comparison.read([folder, tmp_path, again])
    assert found.groups[0].accuracy.n == 1
    assert found.notes == []


def test_a_run_that_was_paused_does_not_spoil_the_time(tmp_path):
    for seed, seconds in enumerate([10.0, 20.0, 600.0]):
        write_run(tmp_path / f"{seed}", seed=seed, train_seconds=seconds)
    [group] = comparison.read([tmp_path]).groups
    assert group.median_seconds == 20
    [rows] = tables_of(text.short_results(comparison.read([tmp_path])))
    assert rows[0]["Time (median)"] == "20 s"
    assert rows[0]["Hardware"] == ", ".join(group.hardware)


def test_figures_that_are_not_known_of_all_runs(tmp_path):
    write_run(tmp_path / "a", seed=0, train_seconds=float("nan"))
    test = {"last": {"accuracy": 0.98}}
    write_run(tmp_path / "b", seed=1, train_seconds=120.0, test=test)
    [group] = comparison.read([tmp_path]).groups
    assert group.median_seconds == 120
    assert group.other_accuracy is None
