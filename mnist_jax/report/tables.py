"""One way to write each kind of number."""

from collections.abc import Sequence


def accuracy(value: float | None) -> str:
    """Return four decimals, or a dash for an undefined value."""
    return "-" if value is None else f"{value:.4f}"


def interval(bounds: Sequence[float]) -> str:
    """Return low and high, such as 0.9842-0.9887."""
    low, high = bounds
    return f"{low:.4f}-{high:.4f}"


def loss(value: float | None) -> str:
    """Return four decimals, or two significant digits of a very small value."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def number(value: float | None) -> str:
    """Return three significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in the units that a person would use."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.0995 else f"{1000 * seconds:.0f} ms"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole:02d} s" if minutes else f"{whole} s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "10,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


FORMATS = {
    function.__name__: function
    for function in (accuracy, interval, loss, number, duration, count)
}
"""The formats by name, as templates use them."""
