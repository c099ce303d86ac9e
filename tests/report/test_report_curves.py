"""Learning curves: what they show is true and can be read, for any length of run."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax.report import curves

OF_X: dict[str, Any] = {"run": "x (seed 0)", "subject": "mnist"}


def strings(texts):
    return [text for text, _ in texts]


@pytest.mark.parametrize(
    ("epochs", "phases"),
    [
        (1, ("train",)),
        (2, ("train",)),
        (9, ("train",)),
        (500, ("train",)),
        (3, ("head", "fine-tuning", "everything")),
        (20, ("head", "a name without an end " * 5)),
        (70, ("head", "fine-tuning", "everything")),
        (500, ("the first phase with a long name",) + ("fine-tuning",) * 8 + ("end",)),
        (500, tuple(f"phase number {i}" for i in range(12))),
    ],
)
def test_curves_are_readable(make_epochs, assert_readable, epochs, phases):
    figure = curves.curves(
        make_epochs(epochs, phases), best_epoch=1, monitor="val_loss", **OF_X
    )
    assert_readable(figure, at_least=9)


@pytest.mark.parametrize("boundaries", [(1, 2), (498, 499), (1, 499)])
def test_names_of_very_short_phases_do_not_collide(
    make_epochs, assert_readable, boundaries
):
    rows = make_epochs(500)
    for row in rows:
        place = sum(row["epoch"] > boundary for boundary in boundaries)
        row["phase"] = ("head", "fine-tuning", "everything")[place]
    figure = curves.curves(rows, best_epoch=1, monitor="val_loss", **OF_X)
    assert_readable(figure, at_least=15)


@pytest.mark.parametrize(
    ("train_loss", "accuracy"),
    [(0.0, 1.0), (1e-30, 0.0), (1e6, 0.1), (2.3, 0.9999833)],
)
def test_curves_stand_extreme_values(
    make_epochs, assert_readable, train_loss, accuracy
):
    rows = make_epochs(12)
    for row in rows[-6:]:
        row.update(loss=train_loss, accuracy=accuracy)
    assert_readable(
        curves.curves(rows, best_epoch=5, monitor="train_loss", **OF_X), at_least=9
    )
    for row in rows:
        row.update(loss=train_loss, accuracy=accuracy)
    assert_readable(
        curves.curves(rows, best_epoch=5, monitor="train_loss", **OF_X), at_least=9
    )


def test_curves_show_the_values(make_epochs):
    rows = make_epochs(40)
    figure = curves.curves(rows, best_epoch=17, monitor="val_accuracy", **OF_X)
    loss_axes, _, error_axes, _ = figure.axes
    for axes, value_of in [
        (loss_axes, lambda row: row["loss"]),
        (error_axes, lambda row: 100 * (1 - row["accuracy"])),
    ]:
        train, val, best = axes.lines
        for line, split in ((train, "train"), (val, "val")):
            mine = [row for row in rows if row["split"] == split]
            assert np.asarray(line.get_xdata()).tolist() == list(range(1, 41))
            expected = np.array([value_of(row) for row in mine])
            # Zeros have no place on a logarithmic axis: they are at its bottom.
            bottom = expected[expected > 1e-9].min() / 10
            shown = np.asarray(line.get_ydata())
            np.testing.assert_allclose(
                shown[expected > bottom], expected[expected > bottom]
            )
            assert (shown[expected <= bottom] < expected[expected > bottom].min()).all()
        at_17 = value_of(rows[2 * 16 + 1])
        np.testing.assert_allclose(np.asarray(best.get_xydata()), [[17, at_17]])


@pytest.mark.parametrize(("share", "scale"), [(0.06, "linear"), (0.04, "log")])
def test_learning_rates_are_below_both_panels(
    make_epochs, assert_readable, share, scale
):
    rows = make_epochs(20, ("head", "fine-tuning"))
    rates = np.geomspace(1e-3, 1e-3 * share, 20).tolist()
    for row in rows:
        if row["split"] == "train":
            row["learning_rate"] = rates[row["epoch"] - 1]
    figure = curves.curves(rows, best_epoch=17, monitor="val_loss", **OF_X)
    for above, below in (figure.axes[:2], figure.axes[2:]):
        assert below.get_yscale() == scale
        assert below.get_xlim() == above.get_xlim()
        line, *borders = below.lines
        assert np.asarray(line.get_xdata()).tolist() == list(range(1, 21))
        np.testing.assert_allclose(np.asarray(line.get_ydata()), rates)
        assert [np.asarray(border.get_xdata())[0] for border in borders] == [0.5, 10.5]
    texts = assert_readable(figure, at_least=15)
    assert texts.count("Learning rate") == 2 and "0.001" in texts


def test_the_end_of_a_cosine_is_drawn_as_0(make_epochs):
    rows = make_epochs(5)
    for row in rows:
        if row["split"] == "train":
            row["learning_rate"] = 1e-10 if row["epoch"] == 5 else 10.0 ** -row["epoch"]
    figure = curves.curves(rows, best_epoch=3, monitor="val_loss", **OF_X)
    for axes in figure.axes[1::2]:
        drawn = np.asarray(axes.lines[0].get_ydata())
        np.testing.assert_allclose(drawn[:4], [0.1, 0.01, 0.001, 0.0001])
        assert axes.get_ylim()[0] < drawn[4] < 1e-4 < 10 * drawn[4]
        assert axes.get_yticklabels()[0].get_text() == "0"


def test_without_learning_rates_there_is_no_axis_for_them(make_epochs, drawn_texts):
    rows = [row for row in make_epochs(5) if row["split"] == "val"]
    figure = curves.curves(rows, best_epoch=3, monitor="val_loss", **OF_X)
    assert len(figure.axes) == 2
    assert strings(drawn_texts(figure)).count("epoch") == 2


@pytest.mark.parametrize(("monitor", "place"), [("train_loss", 0), ("val_loss", 1)])
def test_best_epoch_is_marked_on_the_split_of_its_monitor(make_epochs, monitor, place):
    rows = make_epochs(5)
    figure = curves.curves(rows, best_epoch=2, monitor=monitor, **OF_X)
    (ring,) = [x for x in figure.axes[0].lines if x.get_markerfacecolor() == "none"]
    np.testing.assert_allclose(
        np.asarray(ring.get_xydata()), [[2, rows[2 + place]["loss"]]]
    )


def test_loss_axis_is_logarithmic_only_beyond_a_decade(make_epochs):
    rows = make_epochs(4)
    for row in rows:
        row["loss"] = 0.1 * row["epoch"]
    wide = [{**row, "loss": row["loss"] ** 3} for row in rows]
    for lines, scale in ((rows, "linear"), (wide, "log")):
        figure = curves.curves(lines, best_epoch=1, monitor="val_loss", **OF_X)
        assert figure.axes[0].get_yscale() == scale


def test_no_more_errors_are_drawn_at_a_tick_that_says_zero(make_epochs):
    rows = make_epochs(12)
    for row in rows[-6:]:
        row["accuracy"] = 1.0
    axes = curves.curves(rows, best_epoch=12, monitor="val_loss", **OF_X).axes[2]
    place = list(axes.get_yticks()).index(np.asarray(axes.lines[0].get_ydata())[-1])
    assert axes.get_yticklabels()[place].get_text() == "0"
    assert np.isfinite(axes.get_ylim()).all() and axes.get_ylim()[0] > 0


def test_a_single_epoch_is_a_marker_that_can_be_seen(make_epochs):
    drawn = [
        curves.curves(make_epochs(n), best_epoch=1, monitor="val_loss", **OF_X)
        for n in (1, 2)
    ]
    for one, two in zip(*(figure.axes[0].lines[:2] for figure in drawn), strict=True):
        assert one.get_markersize() >= 2 * two.get_markersize()
    # The legend shows what is drawn: no lines where there are none.
    styles = [
        [line.get_linestyle() for line in figure.legends[0].get_lines()]
        for figure in drawn
    ]
    assert styles == [["None", "None", "None"], ["-", "-", "None"]]


def test_the_title_names_run_and_data(make_epochs, drawn_texts):
    figure = curves.curves(make_epochs(2), best_epoch=1, monitor="val_loss", **OF_X)
    assert "x (seed 0) on mnist" in strings(drawn_texts(figure))


@pytest.mark.parametrize("epochs", [1, 2, 7, 13, 50, 499])
def test_epoch_ticks_are_epochs(make_epochs, drawn_texts, epochs):
    figure = curves.curves(
        make_epochs(epochs), best_epoch=1, monitor="val_loss", **OF_X
    )
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert len(ticks) >= min(epochs, 4)
        assert all(tick == int(tick) and 1 <= tick <= epochs for tick in ticks)


def test_phases_are_named_in_order(make_epochs, drawn_texts):
    rows = make_epochs(10, ("head", "all"))
    assert curves.phases(rows[::-1]) == [("head", 1), ("all", 6)]
    texts = strings(
        drawn_texts(curves.curves(rows, best_epoch=1, monitor="val_loss", **OF_X))
    )
    assert texts.count("head") == texts.count("all") == 2  # In both panels.


def test_training_without_validation_is_drawn(make_epochs, drawn_texts):
    rows = [row for row in make_epochs(5) if row["split"] == "train"]
    figure = curves.curves(rows, best_epoch=3, monitor="val_loss", **OF_X)
    assert len(figure.axes[0].lines) == 1
    assert "validation" not in strings(drawn_texts(figure))


labels_in_line = st.lists(
    st.tuples(st.floats(0, 3.2), st.floats(0.1, 3)), min_size=1, max_size=8
)


@given(labels_in_line)
def test_stacked_labels_never_collide(labels):
    labels = sorted(labels)
    starts, widths = zip(*labels, strict=True)
    placed = curves.stack_labels(starts, widths, 3.2)
    boxes = [
        (left, left + width, row)
        for (left, row), width in zip(placed, widths, strict=True)
    ]
    for (left, right, row), (left2, right2, row2) in itertools.combinations(boxes, 2):
        assert row != row2 or right <= left2 or right2 <= left
    for start, (left, right, row) in zip(starts, boxes, strict=True):
        assert 0 <= left <= start and right <= 3.2 + 1e-9
        assert left == start or right == pytest.approx(3.2)
        assert 0 <= row < len(labels)


@given(st.floats(-8, 3), st.floats(1.001, 12))
def test_log_ticks_are_few_round_and_inside(exponent, decades):
    low, high = 10**exponent, 10 ** (exponent + decades)
    ticks = curves.log_ticks(low, high)
    assert 1 <= len(ticks) <= 10
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert all(
        f"{tick:.15e}"[0] in "125" and float(f"{tick:.0e}") == tick for tick in ticks
    )
