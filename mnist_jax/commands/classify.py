"""Fit random forests, SVMs and others to the features of a network.

  mnist-jax classify RUN --output=FOLDER [--with=svm,knn] [--images=10000]

RUN is the folder of a network's run. Its features are the activations before
the last layer. Beside each classifier of features, the same one is fitted to
the pixels of the same training images. Hyperparameters are chosen on the
validation images; then each classifier sees the test images once.

FOLDER gets a report, and a run folder for each classifier (svm, svm_pixels,
...), which predict, evaluate, compare and demo take as they take a network's.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from mnist_jax import combine, console, data, files
from mnist_jax.commands import outputs
from mnist_jax.config import ConfigError
from mnist_jax.devices import settings
from mnist_jax.errors import UserError
from mnist_jax.evaluation import significance
from mnist_jax.report import render
from mnist_jax.runs import environment, predictions
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import Network
from mnist_jax.runs.trained import found_here

_FAMILIES = ["forest", "svm", "knn", "boosting"]
_WITH = flags.DEFINE_list(
    "with",
    "all",
    f"Any of {', '.join(_FAMILIES)}; or all: these, and those of features stacked with "
    "the network.",
)
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write.")
_IMAGES = flags.DEFINE_integer(
    "images", 10_000, "The number of training images to fit to.", lower_bound=1
)
jax.config.config_with_absl()


class _Answers(NamedTuple):
    hyperparameters: str
    test: np.ndarray
    """Logits of the test images."""
    val: np.ndarray
    """Logits of the validation images."""


@settings.defaults()
def main(arguments: list[str]) -> None:
    """Fit, test and write the classifiers, and print how they compare."""
    stacked = "all" in _WITH.value
    families = _FAMILIES if stacked else list(dict.fromkeys(_WITH.value))
    if len(arguments) != 1 or not _OUTPUT.value:
        raise ConfigError("Give one run, and a folder: RUN --output=FOLDER")
    known = *_FAMILIES, "all"
    if unknown := [name for name in _WITH.value or [""] if name not in known]:
        raise ConfigError(
            f"--with={','.join(_WITH.value)}: there is no {unknown[0]!r} (known: "
            f"{', '.join(known)})."
        )
    folder = files.expand(_OUTPUT.value)
    outputs.check_folder(folder, flag="--output", sign="classify.json")
    try:
        from mnist_jax.combine import classifier, ensemble, members, stacking
        from mnist_jax.combine.features import make_extractor
        from mnist_jax.devices import compiler
    except ImportError as error:
        raise UserError(f"{error}. Run pip install scikit-learn skops.") from error

    compiler.keep_compiled()
    network = combine.load(arguments[0])
    if not isinstance(network, Network) or not network.results:
        raise UserError(f"{arguments[0]} is not the run folder of a network.")
    if network.tested_on == "val":
        raise UserError(
            f"{arguments[0]} was tested on its validation images, which choose "
            "hyperparameters here. Name a run that was tested on test images."
        )
    extractors = {
        name: make_extractor(network, name) for name in ("features", "pixels")
    }
    dataset = data.load(found_here(network.data))
    classes = len(network.classes)
    if _IMAGES.value < classes:
        raise UserError(
            f"--images={_IMAGES.value}: must be at least {classes}, one for each class."
        )
    fewest = np.bincount(dataset.val.labels, minlength=classes).min()
    if stacked and fewest < stacking.FOLDS:
        raise UserError(
            f"--with=all stacks classifiers, which needs {stacking.FOLDS} validation "
            f"images of each class. Use --with={','.join(_FAMILIES)}."
        )
    found = {"softmax": _Answers("", *members.logits(network, dataset))}
    if _IMAGES.value < len(dataset.train):
        train = data.subset(
            dataset.train,
            train_size=_IMAGES.value,
            subset_seed=network.seed,
            task=dataset.task,
        )
        dataset = dataclasses.replace(dataset, train=train)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "network": str(network.path.parent),
        "command": environment.typed_command(),
    }
    files.write_json(folder / "classify.json", about)  # marks the folder as ours
    for inputs, extract in extractors.items():
        splits = dataset.train, dataset.val, dataset.test
        rows = [(extract(split.images[:]), split.labels) for split in splits]
        for family in families:
            name = family if inputs == "features" else f"{family}_pixels"
            created = classifier.create(
                folder / name, family, inputs, network, dataset, rows
            )
            found[name] = _Answers(*created)
            console.LOGGER.info(f"Wrote {folder / name} ({created[0]}).")
    if stacked:
        paths = [network.path.parent, *(folder / family for family in families)]
        place, name = folder / "stack", f"stack on {network.name}"
        ensemble.create(paths, place, by="stacking", name=name)
        stored = predictions.read(RunFolder(place).predictions)
        logits = [part.logits[predictions.ONLY] for part in stored]
        found["stack"] = _Answers("", *logits)
    _report(found, network, dataset, folder)


def _report(
    found: dict[str, _Answers], network: Network, dataset: data.Dataset, folder: Path
) -> None:
    """Print the table, and write it to report.md and report.html."""
    right = {
        name: answers.test.argmax(axis=1) == dataset.test.labels
        for name, answers in found.items()
    }
    pairs = [
        (name, other)
        for name in found
        for other in ("softmax", f"{name}_pixels")
        if name != other and other in found and not name.endswith("_pixels")
    ]
    tests = [significance.mcnemar(*(right[name] for name in pair)) for pair in pairs]
    corrected = significance.holm([test.p for test in tests])
    cells = {
        pair: f"{test.only_first} : {test.only_second}, p {render.number(p)}"
        for pair, test, p in zip(pairs, tests, corrected, strict=True)
    }
    rows = [
        [
            name,
            answers.hyperparameters,
            render.accuracy((answers.val.argmax(axis=1) == dataset.val.labels).mean()),
            render.accuracy(right[name].mean()),
            cells.get((name, "softmax"), ""),
            cells.get((name, f"{name}_pixels"), ""),
        ]
        for name, answers in found.items()
    ]
    header = ["", "Hyperparameters", "Validation", "Test", "To softmax", "To pixels"]
    table = render.Table(header, rows, ["left", "left", *["right"] * 4])
    notes = [
        f"Fitted to the features, or the pixels, of {len(dataset.train):,} training "
        f"images, with the hyperparameters of the highest accuracy on "
        f"{len(dataset.val):,} validation images; tested on {len(dataset.test):,}.",
        "To: the images that only the first, and only the second gets right, and the p "
        f"value of McNemar's test, after Holm's correction for {len(tests)} tests.",
    ]
    table.show(console.output(), *notes)
    title = f"Classifiers of {network.name}, seed {network.seed}, on {dataset.name}"
    command = environment.typed_command()
    text = render.markdown(
        "classified", title=title, table=table, notes=notes, command=command
    )
    files.write_text(folder / "report.md", text)
    files.write_text(folder / "report.html", render.html(text, title, folder))
    console.LOGGER.info(f"Wrote report.md and report.html in {folder}.")
