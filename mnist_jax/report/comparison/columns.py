"""The columns of the table for readers, its row labels and explanation."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from mnist_jax.report import tables
from mnist_jax.report.comparison import robust
from mnist_jax.report.comparison.groups import Group
from mnist_jax.report.comparison.runs import is_number

# So many differences are shown beside a name; more go to a footnote.
_DIFFERENCES_SHOWN = 2
_TEST_SETS = {
    "mnist": "the official test set of MNIST",
    "digits": "the test part of the embedded digits",
}
_AUGMENTATIONS = {
    "rotation": "rotation {}°",
    "zoom": "zoom {}",
    "shift": "shift {}",
    "shear": "shear {}°",
    "elastic": "elastic {} px",
    "erasing": "erasing {}",
}
# They qualify one of the above, and mean nothing without it.
_AUGMENTATION_DETAILS = ("elastic_smoothness", "erasing_area", "fade")
_ABOUT_A_CENTRE = ("rotation", "zoom", "shear")


class Label(NamedTuple):
    """The label of a row."""

    name: str
    details: Sequence[str]
    """The model, and fields in which the config differs."""

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.details)})" if self.details else self.name


class Column(NamedTuple):
    """A column of the table for readers."""

    title: str
    cell: Callable[[Group], str]
    align: Literal["left", "right"] = "right"
    rank: int = 0
    """A narrow terminal drops the column with the highest rank first; 0: never."""
    agreed: str = ""
    """A line for terminals that replaces the column if all rows have one value."""
    long_title: str = ""
    """For Markdown, which has room."""


def augmentation(group: Group) -> str:
    """Return how training images are augmented, such as "rotation 10°, zoom 0.1"."""
    fields = group.first.config.get("augment")
    fields = fields if isinstance(fields, dict) else {}
    unknown = [name for name in fields if name not in _AUGMENTATIONS]
    amounts = {
        name: fields[name]
        for name in [*_AUGMENTATIONS, *unknown]
        if is_number(fields.get(name)) and name not in _AUGMENTATION_DETAILS
    }
    parts = [
        _AUGMENTATIONS.get(name, f"{name} {{}}").format(f"{amount:g}")
        for name, amount in amounts.items()
        if amount
    ]
    centre = fields.get("centre", "image")
    if centre != "image" and any(map(amounts.get, _ABOUT_A_CENTRE)):
        parts.append(f"about the {centre}'s centre")
    if parts and is_number(fade := fields.get("fade")) and fade:
        parts.append(f"fading over the last {100 * fade:.0f} %")
    return ", ".join(parts) or "none"


def duration(seconds: float) -> str:
    """Return a time, rounded to minutes if it is longer than one: "1 h 23 min"."""
    if round(seconds) < 60:
        return tables.duration(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def hardware(group: Group) -> str:
    """Return the hardware of the runs."""
    return " and ".join(group.hardware) or "-"


def _parameters(group: Group) -> str:
    numbers = dict.fromkeys(group.numbers("parameters"))
    return ", ".join(f"{number:,}" for number in numbers) or "-"


def _other_weights(group: Group) -> str:
    other = group.other_accuracy
    return f"{group.other_weights} {other.mean:.4f}" if other else "-"


def _epochs(group: Group) -> str:
    numbers = sorted(set(group.numbers("epochs")))
    if len(numbers) > 1:
        return f"{numbers[0]}-{numbers[-1]}"
    return f"{numbers[0]}" if numbers else "-"


COLUMNS = (
    Column("Augmentation", augmentation, "left", 4, "augmentation: {}"),
    Column("Parameters", _parameters, "right", 6),
    Column("Mean", lambda group: tables.accuracy(group.accuracy.mean)),
    Column("SD", lambda group: tables.accuracy(group.accuracy.sd)),
    Column("n", lambda group: str(group.accuracy.n)),
    Column("Worst", lambda group: tables.accuracy(group.accuracy.worst), rank=1),
    Column("Best", lambda group: tables.accuracy(group.accuracy.best), rank=1),
    Column(
        "Report",
        lambda group: tables.accuracy(group.report_accuracy),
        rank=3,
        long_title="The report (one run)",
    ),
    Column("Damaged", robust.column, "right", 3, long_title="On damaged images"),
    Column("Weights", lambda group: group.weights, "left", 2, "{} epoch's weights"),
    Column("Other weights", _other_weights, "left", 8, long_title="The other weights"),
    Column("Epochs", _epochs, "right", 7, "epochs: {}"),
    Column(
        "Time",
        lambda group: duration(group.median_seconds) if group.median_seconds else "-",
        rank=5,
        long_title="Training time (median)",
    ),
    Column("Hardware", hardware, "left", 9, "{}"),
    Column("Data", lambda group: ", ".join(group.data) or "-", "left"),
)


def explanation(groups: Sequence[Group]) -> str:
    """Return a sentence on what the figures of the table are."""
    where = dict.fromkeys(
        f"validation images of {name}"
        if group.tested_on == "val"
        else _TEST_SETS.get(name, f"the set {name}")
        for group in groups
        for name in group.data
    )
    text = (
        f"Accuracy on {' and '.join(where) or 'the test set'}, mean and sample "
        "standard deviation over n seeds. The weights are chosen without the test set: "
        "the last epoch's, or the best one's by validation, as the config says."
    )
    if any(group.report_accuracy for group in groups):
        text += " The report gives a single run."
    return text


def labels(groups: Sequence[Group]) -> tuple[list[Label], list[str]]:
    """Return a label for each group, and footnotes for differences too long for it."""
    found, footnotes = [], []
    for group in groups:
        name = group.first.name
        details = [group.model] if group.model not in (name, "") else []
        if group.tested_on == "val":
            details.append("on validation images")
        if len(group.differences) <= _DIFFERENCES_SHOWN:
            details += group.differences
        else:
            name += f" [{len(footnotes) + 1}]"
            footnotes.append(f"{name}: {', '.join(group.differences)}.")
        found.append(Label(name, details))
    return found, footnotes


def agree(column: Column, groups: Sequence[Group]) -> bool:
    """Return whether a column has the same value for all groups."""
    return len({column.cell(group) for group in groups}) == 1


def columns_for(groups: Sequence[Group]) -> list[Column]:
    """Return the columns that have content for these groups."""
    return [
        column
        for column in COLUMNS
        if column.title == "SD" or any(column.cell(group) != "-" for group in groups)
        # A common test set is named below the table.
        if column.title != "Data" or not agree(column, groups)
    ]
