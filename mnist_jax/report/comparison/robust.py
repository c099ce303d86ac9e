"""What `mnist-jax evaluate --robustness` found of the runs that are compared."""

import json
import statistics
from pathlib import Path

from mnist_jax.errors import UserError
from mnist_jax.report import tables
from mnist_jax.report.comparison.groups import Group
from mnist_jax.report.comparison.runs import Run, is_number


def column(group: Group) -> str:
    """Return the mean accuracy on damaged images, of the runs that it was measured of.

    Runs that were measured on part of their test images are marked with its size.
    """
    found = [one for run in group.runs if (one := _read(run))]
    if not found:
        return "-"
    text = tables.accuracy(statistics.mean(mean for mean, _ in found))
    remarks = []
    if len(found) < len(group.runs):
        remarks.append(f"n = {len(found)}")
    sizes = dict.fromkeys(size for _, size in found if size)
    remarks += [f"{size:,} images" for size in sizes]
    return f"{text} ({', '.join(remarks)})" if remarks else text


def _read(run: Run) -> tuple[float, int] | None:
    """Return a run's mean, and how many images it is of if these are not all."""
    path = run.folder / "evaluation" / "evaluation.json"
    try:
        (entry,) = json.loads(path.read_text(encoding="utf-8"))["runs"]
        sha256 = entry["parameters_sha256"]
        examples = entry["evaluation"]["examples"]
        found = entry.get("robustness")
        mean = found["mean_corrupted_accuracy"] if found else 0.0
        size = found["examples"] if found else 0
    except FileNotFoundError:
        return None
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise _stale(path, f"is damaged ({error!r})") from error
    if sha256 != run.results.get("parameters_sha256"):
        raise _stale(path, "is about other weights than results.json")
    if not is_number(mean):
        raise _stale(path, f"is damaged (mean_corrupted_accuracy is {mean!r})")
    return (mean, 0 if size == examples else size) if found else None


def _stale(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} {reason}. `mnist-jax evaluate {path.parent.parent} --robustness` "
        "writes it anew; or remove it."
    )
