"""Read handwritten digits in photographs, scans and drawings.

  mnist-jax predict PICTURE ... [--run=RUN] [--save=FOLDER] [--csv=FILE]
      [--format=json]
  mnist-jax predict --kaggle=submission.csv test.csv [--run=RUN]

PICTURE is an image file or a folder of them. Several digits are read from left
to right and line by line. RUN is a run folder or its weights.safetensors.
Default: the network that comes with the package.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from PIL import PngImagePlugin

from mnist_jax import console, files
from mnist_jax.commands import outputs
from mnist_jax.data import labelled, own, raster
from mnist_jax.data.dataset import DataError
from mnist_jax.errors import UserError

if TYPE_CHECKING:
    from mnist_jax.photos import Digit, Reading
    from mnist_jax.runs.trained import Trained

    _Read = list[tuple[Path, Reading]]

_RUN = flags.DEFINE_string(
    "run", None, "A run folder, or the weights.safetensors of a network."
)
_RAW = flags.DEFINE_bool(
    "raw",
    False,
    "The pictures are already prepared as in MNIST: 28x28, bright on black, centred. "
    "They may also be .npy and IDX files of several images.",
)
_SAVE = flags.DEFINE_string(
    "save",
    None,
    "A folder for drawings of the readings: boxes, prepared digits, probabilities.",
)
_CSV = flags.DEFINE_string("csv", None, "A CSV file to write, a row for each digit.")
_FORMAT = flags.DEFINE_enum(
    "format", "table", ["table", "json"], "Format of the output."
)
_JSON = flags.DEFINE_bool("json", False, "The same as --format=json.")
flags.DEFINE_alias("output", "save")
_KAGGLE = flags.DEFINE_string(
    "kaggle",
    None,
    "A new file of answers for Kaggle's test.csv, which is named instead of pictures.",
)

_COLUMNS = "picture,line,digit,probability,unsure,left,top,right,bottom,turned,doubt"
_ANSWERS = "ImageId,Label"
_SOFTWARE = "mnist-jax predict"  # marks the drawings


def main(arguments: list[str]) -> None:
    """Read the pictures and print the readings.

    Raises:
        UserError: the flags are wrong, or some picture could not be read, after all
            others have been read.
    """
    if not arguments:
        raise UserError("Name a picture: mnist-jax predict PICTURE ...")
    if _KAGGLE.value:
        _answer_kaggle(files.expand(_KAGGLE.value), arguments)
        return
    failures: list[str] = []
    skipped: list[str] = []
    paths = list(_pictures_in(arguments, failures, skipped))
    if skipped:
        print(f"Skipped {len(skipped)}: {', '.join(skipped)}.", file=sys.stderr)
    drawings = _drawings(paths, _SAVE.value, arguments) if _SAVE.value else paths
    table = files.expand(_CSV.value) if _CSV.value else None
    if table:
        outputs.check(table, flag="--csv", mark=_COLUMNS.encode(), inputs=paths)
    # Imported late: bad flags need not wait for JAX.
    from mnist_jax import combine, photos
    from mnist_jax.devices import compiler

    compiler.keep_compiled()
    run = combine.load(_RUN.value)
    below, _ = run.threshold
    read = []
    for path, drawing in zip(paths, drawings, strict=True):
        try:
            if _RAW.value:
                found = photos.read_prepared(path)
                images = np.stack([digit.image for digit in found])
                labelled.check_dark(images[..., np.newaxis], run.task, path)
                reading = photos.classify(run, below, found)
            else:
                reading = photos.read(run, below, path)
        except photos.PhotoError as error:
            failures.append(f"{_shown(path)} {error}.")
            continue
        except DataError as error:
            failures.append(str(error))
            continue
        except OSError as error:
            failures.append(f"{_shown(path)}: {error.strerror or error}.")
            continue
        read.append((path, reading))
        if _SAVE.value:
            _draw(path, reading, drawing, run.classes)
    if table:
        files.write_text(table, _as_csv(read, run.classes))
    if _JSON.value or _FORMAT.value == "json":
        print(json.dumps(_as_json(read, failures, run), indent=2))
    elif read:
        _show(read, run)
    if failures:
        raise UserError("\n".join(failures))


def _answer_kaggle(submission: Path, arguments: Sequence[str]) -> None:
    """Write ImageId,Label for each image in a table without labels."""
    if len(arguments) > 1 or _RAW.value or _SAVE.value or _CSV.value or _JSON.value:
        raise UserError("--kaggle needs a test.csv, and no other flag than --run.")
    table = files.expand(arguments[0])
    outputs.check(submission, flag="--kaggle", mark=_ANSWERS.encode(), inputs=[table])
    if submission.is_file():  # Kaggle's example has the same columns
        raise UserError(f"--kaggle: {submission} exists. Choose another name.")
    images, labels = own.read_csv(table)
    if labels is not None:
        raise UserError(f"{table} has labels. Name a test.csv without them.")
    from mnist_jax import combine
    from mnist_jax.devices import compiler

    compiler.keep_compiled()
    run = combine.load(_RUN.value)
    if run.task.image_shape != (28, 28, 1):
        raise UserError(f"{run.path} is not for grey images of 28x28.")
    answers = run.logits(images).argmax(axis=1)
    rows = (f"{number},{label}\n" for number, label in enumerate(answers, start=1))
    files.write_text(submission, "".join((_ANSWERS, "\n", *rows)))
    console.LOGGER.info(f"Wrote {len(answers):,} answers to {submission}.")


def _pictures_in(
    arguments: Sequence[str], failures: list[str], skipped: list[str]
) -> Iterator[Path]:
    """Yield the pictures; a folder without any is a failure.

    What else is in a folder is skipped, and hidden files, which are no pictures: macOS
    writes `._photo.jpg` beside `photo.jpg`.
    """
    endings = raster.endings()
    if _RAW.value:
        endings |= {".npy", ".idx"}
    for path in (files.expand(argument) for argument in arguments):
        if path.is_dir():
            has_pictures = False
            for inside in sorted(path.iterdir()):
                if inside.suffix.lower() in endings and inside.name[0] != ".":
                    has_pictures = True
                    yield inside
                else:
                    skipped.append(_shown(inside))
            if not has_pictures:
                failures.append(f"{_shown(path)} is a folder without pictures.")
        else:
            yield path


def _shown(path: Path) -> str:
    """Return a path as text, even if its name is not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _drawings(paths: Sequence[Path], save: str, arguments: Sequence[str]) -> list[Path]:
    """Return a file in the folder --save for each picture, if it may be written."""
    folder = files.expand(save)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--save={folder} is not a folder.")
    read = [files.expand(argument) for argument in arguments]
    if folder.exists() and any(p.is_dir() and p.samefile(folder) for p in read):
        raise UserError(f"--save={folder} is a folder to read. Name another one.")
    folder.mkdir(exist_ok=True)
    drawings = [
        folder / f"{number:03}-{path.stem}.png"
        for number, path in enumerate(paths, start=1)
    ]
    for drawing in drawings:
        outputs.check(drawing, flag="--save", mark=_SOFTWARE.encode(), inputs=paths)
    return drawings


def _as_json(read: "_Read", failures: Sequence[str], run: "Trained") -> dict[str, Any]:
    """Return readings as JSON has them; boxes are left, top, right, bottom."""
    pictures = []
    for path, reading in read:
        digits = [
            {
                "digit": digit.label,
                "probability": digit.probability,
                "unsure": digit.unsure,
                "doubt": digit.doubt,
                "box": list(digit.box),
                "probabilities": dict(_ranked(digit, run)),
            }
            for digit in reading.digits
        ]
        named = {"picture": _shown(path), "reading": str(reading)}
        pictures.append(named | {"turned": reading.turned, "digits": digits})
    about = {"network": str(run.path), "unsure_below": run.threshold[0]}
    return about | {"pictures": pictures, "errors": failures}


def _as_csv(read: "_Read", classes: Sequence[str]) -> str:
    """Return a row for each digit, with the probability of each class."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_COLUMNS.split(","), *(f"p{name}" for name in classes)])
    for path, reading in read:
        for digit in reading.digits:
            about = [digit.line, digit.label, digit.probability, digit.unsure]
            about += [*digit.box, reading.turned, digit.doubt]
            writer.writerow([_shown(path), *about, *digit.probabilities.tolist()])
    return file.getvalue()


def _ranked(digit: "Digit", run: "Trained") -> list[tuple[str, float]]:
    """Return classes and their probabilities, the most probable first."""
    pairs = zip(run.classes, digit.probabilities.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


def _show(read: "_Read", run: "Trained") -> None:
    """Print a table of the readings."""
    from mnist_jax.report.render import Table
    from mnist_jax.runs import trained

    rows = []
    for path, reading in read:
        texts = [_shown(path), str(reading).replace("\n", " / ")]
        if reading.turned:
            texts[1] += f" (turned by {reading.turned} degrees)"
        for digit in reading.digits:
            first, second = (
                f"{label} {100 * probability:5.1f} %"
                for label, probability in _ranked(digit, run)[:2]
            )
            doubt = f"unsure, {digit.doubt}".strip(", ") if digit.unsure else ""
            rows.append([*texts, first, second, doubt])
            texts = ["", ""]
    below, source = run.threshold
    header = ["Picture", "Reading", "Most probable", "Second", ""]
    notes = [f"Read by {trained.describe(run)}."]
    if any(row[-1] for row in rows):
        share = f"{trained.UNSURE_SHARE:.0%} of {source}"
        notes.append(
            f"Unsure: below {below:.1%}, as {share} are, or for the reason given."
        )
    Table(header, rows, ["left"] * 5).show(console.output(), *notes)


def _draw(
    path: Path, reading: "Reading", drawing: Path, classes: Sequence[str]
) -> None:
    """Draw a reading into a file."""
    from mnist_jax.report import strip

    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", _SOFTWARE)
    drawn = strip.draw(path, reading, classes, prepared=_RAW.value)
    with files.atomic_writer(drawing) as file:
        drawn.save(file, "PNG", pnginfo=mark)
