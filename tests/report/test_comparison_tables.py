"""How a comparison reads: in a terminal, as Markdown, as CSV."""

import csv
import io
import itertools
import re

import pytest

from mnist_jax.report import comparison
from mnist_jax.report.comparison import columns, groups, terminal, text
from tests.support.made_runs import AUGMENT, shown, tables_of, write_run


def test_a_single_run_has_no_deviation(tmp_path):
    found = comparison.read([write_run(tmp_path)])
    [row] = tables_of(text.to_markdown(found))[0]
    assert row["SD"] == "-" and row["n"] == "1"
    assert re.search(r"0\.9800 +- +1 ", shown(found, 80))


def test_old_folders_without_newer_fields_work(tmp_path):
    config = dict.fromkeys(("augment", "report_accuracy", "model", "best"), ...)
    newer = ("model", "data", "parameters", "epochs", "train_seconds", "val")
    newer += ("parameters_sha256", "test")
    device = dict.fromkeys(("device", "device_kind", "cores", "command"), ...)
    write_run(tmp_path, config=config, environment=device, **dict.fromkeys(newer, ...))
    found = comparison.read([tmp_path])
    assert "0.9800" in shown(found, 100)
    [row] = csv.DictReader(io.StringIO(text.to_csv(found)))
    assert row["mean"] == "0.98"
    assert row["other_mean"] == row["report_accuracy"] == row["epochs_mean"] == ""
    summary, every = tables_of(text.to_markdown(found))
    assert summary[0]["Augmentation"] == "none"
    unknown = {"Parameters", "Epochs", "Training time (median)", "Hardware"}
    assert not unknown & set(summary[0])
    assert every[0]["Test, last weights"] == every[0]["Command"] == "-"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "rotation 10°, zoom 0.1, shift 0.1"),
        ({"centre": "report"}, "rotation 10°, zoom 0.1, shift 0.1, about the report's"),
        ({"rotation": 0, "zoom": 0, "shift": 0, "fade": 0.5}, "none"),
        ({"rotation": 0, "zoom": 0, "centre": "report"}, "shift 0.1"),
        ({"elastic": 1.5, "erasing": 0.25}, "shift 0.1, elastic 1.5 px, erasing 0.25"),
        ({"shear": 5.0}, "shift 0.1, shear 5°"),
        ({"fade": 1 / 3}, "shift 0.1, fading over the last 33 %"),
        ({"mixup": 0.2}, "shift 0.1, mixup 0.2"),
    ],
)
def test_augmentation_is_short_text(tmp_path, changes, expected):
    write_run(tmp_path, config={"augment": AUGMENT | changes})
    said = columns.augmentation(comparison.read([tmp_path]).groups[0])
    assert expected in said
    assert ("about" in said) == ("about" in expected)
    assert said.startswith("rotation") or said == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.25, "0.2 s"),
        (16, "16 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (540, "9 min"),
        (3569, "59 min"),
        (3571, "1 h 00 min"),
        (4980, "1 h 23 min"),
    ],
)
def test_times_are_those_of_a_person(seconds, expected):
    assert columns.duration(seconds) == expected


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({}, "CPU, 2 cores"),
        ({"device": "gpu", "device_kind": "NVIDIA H100"}, "NVIDIA H100"),
        ({"device": "gpu", "device_kind": "A", "device_count": 4}, "4x A"),
    ],
)
def test_hardware(tmp_path, device, expected):
    write_run(tmp_path / "a", environment=device)
    write_run(tmp_path / "b", seed=1, environment={"device": "tpu", "device_kind": "T"})
    [group] = comparison.read([tmp_path]).groups
    assert columns.hardware(group) == f"{expected} and T"


@pytest.fixture
def two_rows(tmp_path):
    """Three seeds of one config, two of another with the best epoch's weights."""
    for seed, accuracy in enumerate([0.9865, 0.9899, 0.9891]):
        write_run(
            tmp_path / f"lenet5-{seed}",
            seed=seed,
            accuracy=accuracy,
            epochs=50 - seed,
            train_seconds=600 - 30.0 * seed,
            config={"report_accuracy": 0.9897},
        )
    for seed, accuracy in ((3, 0.9961), (11, 0.9951)):
        write_run(
            tmp_path / f"triple-{seed}",
            seed=seed,
            accuracy=accuracy,
            model="triple|cnn",
            parameters=1029418,
            train_seconds=7200,
            test_weights="best",
            config={"name": "triple", "augment": AUGMENT},
        )
    return comparison.read([tmp_path])


def test_markdown_has_the_figures_and_every_run(two_rows):
    summary, every = tables_of(text.to_markdown(two_rows))
    first, second = summary
    assert first == {
        "Network": "lenet5",
        "Augmentation": "none",
        "Parameters": "61,706",
        "Mean": "0.9885",
        "SD": "0.0018",
        "n": "3",
        "Worst": "0.9865",
        "Best": "0.9899",
        "The report (one run)": "0.9897",
        "Weights": "last",
        "The other weights": "best 0.4943",
        "Epochs": "48-50",
        "Training time (median)": "10 min",
        "Hardware": "CPU, 2 cores",
    }
    assert second["Network"] == r"triple (triple\|cnn)"
    assert second["Mean"] == "0.9956"
    assert second["The report (one run)"] == "-"
    assert second["The other weights"] == "last 0.9956"
    assert [(row["Network"], row["Seed"]) for row in every] == [
        ("lenet5", "0"),
        ("lenet5", "1"),
        ("lenet5", "2"),
        (r"triple (triple\|cnn)", "3"),
        (r"triple (triple\|cnn)", "11"),
    ]
    assert every[1] == {
        "Network": "lenet5",
        "Seed": "1",
        "Test, last weights": "0.9899",
        "Test, best weights": "0.4950",
        "Validation": "0.7500",
        "Epochs": "49",
        "Seconds": "570.0",
        "Commit": "0123456789-dirty",
        "Command": "`python x`",
    }
    assert every[3]["Validation"] == "0.2500"
    assert "official test set of MNIST, mean and sample standard deviation" in (
        text.to_markdown(two_rows)
    )


def test_csv_gives_the_same_numbers_back(two_rows):
    rows = list(csv.DictReader(io.StringIO(text.to_csv(two_rows))))
    for row, group in zip(rows, two_rows.groups, strict=True):
        seeds = [int(seed) for seed in row["seeds"].split()]
        values = [float(value) for value in row["accuracies"].split()]
        assert seeds == [run.seed for run in group.runs]
        assert values == [run.results["test_accuracy"] for run in group.runs]
        figures = [float(row[n]) for n in ("mean", "sd", "n", "worst", "best")]
        assert tuple(figures) == groups.summarize(values)
        assert float(row["other_mean"]) == group.other_accuracy.mean
        assert float(row["train_seconds_median"]) == group.median_seconds
    assert [row["report_accuracy"] for row in rows] == ["0.9897", ""]
    assert [row["epochs_least"] for row in rows] == ["48", "50"]
    assert [row["epochs_most"] for row in rows] == ["50", "50"]
    assert rows[0]["epochs_mean"] == "49"
    assert None not in itertools.chain(*rows)


@pytest.mark.parametrize("width", [30, 60, 80, 100, 120, 200])
def test_a_terminal_shows_what_fits_and_says_what_does_not(two_rows, width):
    output = shown(two_rows, width)
    assert max(map(len, output.splitlines())) <= width
    spaced = " ".join(output.split())
    titles = [column.title for column in columns.columns_for(two_rows.groups)]
    head, _, below = output.partition("\n\n")
    left_out = spaced.partition("No room for ")[2].partition(":")[0].split(", ")
    in_head = re.split(r"\s{2,}", head.splitlines()[0].strip())[1:]
    ranks = {column.title.lower(): column.rank for column in columns.COLUMNS}
    kept = [ranks[title.lower()] for title in in_head if title.lower() in ranks]
    assert max(kept) <= min((ranks[title] for title in left_out if title), default=99)
    if width >= 60:
        in_head = [title.lower() for title in in_head]
        said = [*in_head, *filter(None, left_out), "hardware"]
        assert sorted(said) == sorted(title.lower() for title in titles)
        below = " ".join(below.split())
        assert "The weights" in below and "rows: CPU, 2 cores." in below
        for figure in ("0.9885", "0.0018", "0.9956", "0.0007"):
            assert figure in head
    if width >= 200:
        assert "No room" not in output
        assert "rotation 10°, zoom 0.1," in output


def test_long_cells_are_broken_after_commas():
    said = "rotation 10°, zoom 0.1, shift 0.1"
    assert terminal._wrapped(said, 14) == "rotation 10°,\nzoom 0.1,\nshift 0.1"
    assert terminal._wrapped(said, 24) == "rotation 10°, zoom 0.1,\nshift 0.1"
    said = "elastic 1.5 px, erasing 0.25"
    assert terminal._wrapped(said, 14) == "elastic 1.5 px,\nerasing 0.25"
    assert terminal._wrapped("NVIDIA H100 80GB", 14) == "NVIDIA H100\n80GB"


def test_rows_of_several_data_sets_name_theirs(tmp_path):
    for name, data in (("a", "mnist"), ("b", "mnist"), ("c", "digits")):
        write_run(tmp_path / name, data=data, config={"name": name})
    found = comparison.read([tmp_path])
    rows = tables_of(text.to_markdown(found))[0]
    assert [row["Data"] for row in rows] == ["mnist", "mnist", "digits"]
    assert re.search(
        r"MNIST and the test part of the\s+embedded digits", shown(found, 99)
    )
