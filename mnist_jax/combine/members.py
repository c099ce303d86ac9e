"""The members of an ensemble: finished runs that go together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer

from mnist_jax import combine, data
from mnist_jax.combine import stacking
from mnist_jax.config import to_json
from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration
from mnist_jax.report.render import Table, accuracy
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import INCIDENTAL_FIELDS, RunFolder, flatten
from mnist_jax.runs.trained import Trained

Logits = Float32[np.ndarray, "n classes"]


def load(path: Path) -> Trained:
    """Load a run that may be a member.

    Raises:
        UserError: it is not finished, or an ensemble, or a file of weights alone.
    """
    # Before it is loaded: a damaged ensemble.json may name its own folder.
    if (RunFolder(path).read_results() or {}).get("kind") == "ensemble":
        raise UserError(f"{path} is an ensemble. Name its members instead.")
    found = combine.load(path)
    if found.results is None:
        raise UserError(f"{path} is a file: name the folder of the finished run.")
    return found


def check(members: Sequence[Trained], by: str) -> None:
    """Check that runs go together, and that none has seen images to validate on.

    Raises:
        UserError: there are fewer than two, they differ in data or classes, one is
            there twice, or stacking would be fitted on images that were used before.
    """
    if len(members) < 2:
        raise UserError("An ensemble needs at least two runs.")
    known: dict[str, Path] = {}
    expected = _identity(members[0])
    for member in members:
        folder, found = member.path.parent, _identity(member)
        for name, value in found.items():
            if value != expected.get(name):
                raise UserError(
                    f"{members[0].path.parent} and {folder} differ in {name}: "
                    f"{expected.get(name)} and {value}. Members need the same classes, "
                    "data and validation images, which none was trained on."
                )
        if by == "stacking" and (
            member.fitted_on_validation or member.tested_on == "val"
        ):
            raise UserError(
                f"{folder} was fitted or tested on the validation images that stacking "
                "is fitted on. Leave it out, or use --by=probabilities."
            )
        if other := known.get(member.parameters_sha256):
            raise UserError(f"{folder} has the parameters of {other}: leave one out.")
        known[member.parameters_sha256] = folder


def _identity(member: Trained) -> dict[str, object]:
    """Return all that members must have in common."""
    fields = flatten({"data": to_json(member.data)})
    del fields["data.subset_seed"]  # no subset has images for validation
    results = member.results or {}
    return {
        **{name: fields[name] for name in fields if name not in INCIDENTAL_FIELDS},
        "classes": ", ".join(member.classes),
        "test_images_sha256": results["test_images_sha256"],
    }


def logits(member: Trained, dataset: data.Dataset) -> tuple[Logits, Logits]:
    """Return a member's logits of test and validation images, stored or computed.

    Raises:
        UserError: its predictions.npz is damaged, or it was about other images.
    """
    path = RunFolder(member.path.parent).predictions
    parts = dataset.test, dataset.val
    tested = (member.results or {})["test_images_sha256"]
    if tested != data.images_sha256(dataset.test.images):
        raise UserError(f"{path.parent} was tested on other images than the data has.")
    if not path.exists():
        test, val = (member.logits(part.images) for part in parts)
        return test, val
    stored = predictions.read(path)
    for found, part in zip(stored, parts, strict=True):
        if found.images_sha256 != data.images_sha256(part.images):
            raise UserError(f"{path} is about other images than the data has.")
    test, val = (found.logits[member.weights] for found in stored)
    return test, val


def table(
    names: Sequence[str],
    logits: Sequence[Logits],
    labels: Integer[np.ndarray, " n"],
    by: str,
) -> Table:
    """Return the accuracy of each member alone, without it, and of a greedy selection.

    Args:
        names: of the members, at least two.
        logits: of the members for validation images.
        labels: of these images.
        by: how they are combined; not "stacking".
    """

    def score(chosen: Sequence[int]) -> tuple[float, float]:
        combined = stacking.combine([logits[k] for k in chosen], by, {})
        right = float((combined.argmax(axis=1) == labels).mean())
        return right, -calibration.loss(combined, labels)

    left, order, greedy = [*range(len(names))], [], {}
    while left:
        scores = {k: score([*order, k]) for k in left}
        order.append(best := max(left, key=scores.__getitem__))
        left.remove(best)
        greedy[best] = f"{len(order)}: {accuracy(scores[best][0])}"
    rows = []
    for k, name in enumerate(names):
        parts = [k], [other for other in order if other != k]
        rows.append([name, *(accuracy(score(part)[0]) for part in parts), greedy[k]])
    header = ["Member", "Alone", "Without it", "Greedy"]
    return Table(header, rows, ["left", *["right"] * 3])
