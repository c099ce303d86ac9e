"""The run folder of an ensemble or a classifier: its figures, its files, its report.

It has no metrics, checkpoints or weights.safetensors. Its config.json identifies the
experiment; each kind adds another file, from which it is loaded.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mnist_jax import data, evaluation, files
from mnist_jax.errors import UserError
from mnist_jax.report import render
from mnist_jax.report.render import Table
from mnist_jax.runs import environment, predictions
from mnist_jax.runs.folder import RunFolder, check_fields, read_json
from mnist_jax.runs.predictions import ONLY, Predictions
from mnist_jax.runs.trained import Trained

Part = TypeVar("Part", bound=Trained)

_RESULTS = {
    str: "parameters_sha256 test_weights",
    int: "parameters",
    dict: "test val",
}


def results(
    dataset: data.Dataset,
    tested: np.ndarray,
    val: np.ndarray,
    **fields: Any,
) -> dict[str, Any]:
    """Return the contents of results.json.

    Args:
        dataset: the images.
        tested: the logits of the test images.
        val: the logits of the validation images, computed without their labels.
        **fields: "kind", "config" (its name), "tested_on", "seed", "parameters",
            "parameters_sha256", "train_seconds" and any others.
    """
    classes = dataset.task.classes
    scores = {
        "test": {ONLY: evaluation.evaluate(tested, dataset.test.labels, classes)},
        "val": {ONLY: evaluation.evaluate(val, dataset.val.labels, classes)},
    }
    return {
        "data": dataset.name,
        "classes": list(classes),
        "test_images_sha256": data.images_sha256(dataset.test.images),
        "test_weights": ONLY,
        "test_accuracy": scores["test"][ONLY]["accuracy"],
        **fields,
        **scores,
    }


def read(
    path: Path | str, name: str, fields: Mapping[Any, str]
) -> tuple[RunFolder, dict[str, Any], dict[str, Any]]:
    """Read a run folder, written by `write`.

    Args:
        path: the folder.
        name: the file that its kind adds.
        fields: of this file, as for `folder.read_json`.

    Returns:
        The folder, and the contents of results.json and of this file.

    Raises:
        UserError: a file is missing or damaged.
    """
    folder = RunFolder(path)
    found = folder.read_results() or {}
    check_fields(found, _RESULTS, folder.results)
    for split in ("test", "val"):
        scores = found[split].get(ONLY)
        check_fields(scores, {int: "examples"}, folder.results, f"{split}: ")
    return folder, found, read_json(folder.path / name, fields)


def load_part(
    load: Callable[[Path], Part], path: Path, sha256: str, file: Path
) -> Part:
    """Load a run that the run folder of a combination names.

    Args:
        load: from its folder to the run.
        path: the folder.
        sha256: the checksum of the run's parameters when `file` was written.
        file: that names it.

    Raises:
        UserError: the run cannot be loaded, or has changed.
    """
    try:
        found = load(path)
    except UserError as error:
        raise UserError(f"{file} names another run: {error}") from error
    if found.parameters_sha256 != sha256:
        raise UserError(
            f"{found.path} has changed since {file} was written. Restore it, or make "
            f"{file.parent} again."
        )
    return found


def write(
    folder: Path,
    results: Mapping[str, Any],
    dataset: data.Dataset,
    tested: np.ndarray,
    val: np.ndarray,
    *,
    config: Mapping[str, Any],
    sections: Mapping[str, Sequence[str | Table]],
) -> None:
    """Write the files that all kinds have; results.json, the last, marks the end.

    Args:
        folder: an existing folder, in which the kind has written its own files.
        results: from `results`.
        dataset: the images.
        tested: the logits of the test images.
        val: the logits of the validation images.
        config: what identifies the experiment, with its "name", "seed" and "data".
        sections: the report's own parts: paragraphs and tables by title.

    Raises:
        OSError: a file cannot be written.
    """
    from mnist_jax.report import figures
    from mnist_jax.report.style import About

    paths = RunFolder(folder)
    on = "validation" if results["tested_on"] == "val" else "test"
    about = About(
        f"{results['config']}, seed {results['seed']}",
        f"{on} images of {dataset.name}",
        dataset.task.classes,
    )
    confusion = np.array(results["test"][ONLY]["confusion"])
    images, labels = dataset.test.images, dataset.test.labels
    drawn = {
        "Confusion matrix": figures.confusion_matrix(confusion, about),
        "Most confident mistakes": figures.mistakes(images, labels, tested, about),
    }
    pictures = {
        title: f"{title.replace(' ', '_').lower()}.png"
        for title, figure in drawn.items()
        if figure
    }
    for title, picture in pictures.items():
        figures.save(drawn[title], paths.figures / picture)
    here = environment.describe()
    title = f"{results['config']}: {results['kind']} on {dataset.name}"
    text = render.markdown(
        "combined",
        title=title,
        on=on.capitalize(),
        results=results,
        scores=results["test"][ONLY],
        sections=sections,
        command=here["command"],
        pictures=pictures,
    )
    files.write_text(paths.report, text)
    whole = render.html(text, title, paths.figures)
    files.write_text(folder / "report.html", whole)
    predictions.write(
        paths.predictions,
        *(
            Predictions(part.labels, {ONLY: logits}, data.images_sha256(part.images))
            for part, logits in ((dataset.test, tested), (dataset.val, val))
        ),
    )
    files.write_json(paths.environment, here)
    files.write_json(paths.config, config)
    files.write_json(paths.results, results)
