"""Markdown tables and numbers as a person would write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax.report import tables


def test_markdown_table_is_aligned():
    table = tables.markdown_table(
        ["Name", "n"], [["a|b", "1"], ["two\nlines", "1,000"]], ["left", "right"]
    )
    assert table.splitlines() == [
        "| Name      |     n |",
        "| :-------- | ----: |",
        r"| a\|b      |     1 |",
        "| two lines | 1,000 |",
    ]


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(
            st.lists(st.text("a|`\n*", max_size=6), min_size=n, max_size=n), min_size=1
        )
    )
)
def test_every_line_of_a_table_has_the_same_cells_and_width(lines):
    header, *rows = lines
    table = tables.markdown_table(header, rows, ["center"] * len(header)).split("\n")
    assert len(table) == len(lines) + 1
    bars = [line.count("|") - line.count(r"\|") for line in table]
    assert set(bars) == {len(header) + 1}
    assert len({len(line) for line in table}) == 1


@pytest.mark.parametrize(
    ("rows", "align"), [([["1"]], ["left"] * 2), ([["1", "2"]], ["left"])]
)
def test_ragged_table_is_refused(rows, align):
    with pytest.raises(ValueError, match="2 columns but 1"):
        tables.markdown_table(["a", "b"], rows, align)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.0996, "0.1 s"),
        (7.14, "7.1 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (372.2, "6 min 12 s"),
        (3599.6, "1 h 00 min"),
        (7_530, "2 h 05 min"),
    ],
)
def test_duration(seconds, text):
    assert tables.duration(seconds) == text


def test_numbers():
    assert tables.accuracy(0.98969) == "0.9897"
    assert tables.accuracy(None) == tables.loss(None) == tables.number(None) == "-"
    assert tables.interval([0.98419, 0.98872]) == "0.9842-0.9887"
    assert tables.loss(0.03456) == "0.0346"
    assert tables.loss(0.000123) == "1.2e-04"
    assert tables.loss(0.0) == "0.0000"
    assert tables.number(1e-3) == "0.001"


def test_fence_is_longer_than_any_in_the_text():
    assert tables.fenced("x\n", "sh") == "```sh\nx\n```"
    assert tables.fenced("a ```` b").startswith("`````\n")


@given(st.integers(1, 600), st.data())
def test_thinned_epochs(total, data):
    epochs = list(range(1, total + 1))
    best = data.draw(st.sampled_from(epochs))
    ends = sorted(data.draw(st.sets(st.sampled_from(epochs), max_size=3)))
    phases = [str(sum(epoch > end for end in ends)) for epoch in epochs]
    kept = tables.thinned(phases, epochs, best)
    assert kept == sorted(set(kept)) and set(kept) <= set(epochs)
    assert {1, total, best, *ends} <= set(kept)
    if total <= tables.EPOCHS_SHOWN:
        assert kept == epochs
    else:
        assert tables.EPOCHS_SHOWN - 2 <= len(kept) <= tables.EPOCHS_SHOWN + 3
        gaps = [after - before for before, after in zip(kept, kept[1:], strict=False)]
        assert max(gaps) <= total / (tables.EPOCHS_SHOWN - 3) + 1


def test_epochs_table_marks_the_best_and_names_phases(make_epochs):
    table = tables.markdown_table(
        *tables.epochs_table(make_epochs(4, ("head", "all")), best_epoch=3)
    )
    header, _, *rows = table.splitlines()
    assert "Phase" in header
    assert [row.split("|")[1].strip() for row in rows] == ["1", "2", "**3**", "4"]
    assert [row.split("|")[2].strip(" *") for row in rows] == ["head"] * 2 + ["all"] * 2


def test_epochs_table_holds_the_values_of_both_splits(make_epochs):
    cells = tables.epochs_table(make_epochs(2), best_epoch=1).rows[-1]
    # Made in conftest.py; the time is that of both splits.
    train_errors, val_errors = 2_646, 175
    assert cells == [
        "2",
        "0.001",
        f"{0.4 * 0.49 + 1e-5:.4f}",
        f"{1 - train_errors / 54_000:.4f}",
        f"{0.05 + 0.064 + 0.002:.4f}",
        f"{1 - val_errors / 6_000:.4f}",
        "7.7 s",
    ]


def test_epochs_table_without_validation(make_epochs):
    rows = [row for row in make_epochs(2) if row["split"] == "train"]
    assert tables.epochs_table(rows, 1).rows[-1][-3:-1] == ["-", "-"]


def test_per_class_table():
    score = {"digit": 7, "precision": None, "recall": 0.5, "f1": 1.0, "support": 1028}
    (row,) = tables.per_class_table([score]).rows
    assert row == ["7", "-", "0.5000", "1.0000", "1,028"]
