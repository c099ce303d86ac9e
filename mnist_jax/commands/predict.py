"""Read handwritten digits in photographs, scans and drawings.

  mnist-jax predict PICTURE ... [--run=RUN] [--save=FOLDER] [--csv=FILE] [--json]

PICTURE is an image file, a folder of them, a pattern such as 'scans/*.png', or - for
standard input. Several digits are read from left to right and line by line. RUN is a
run folder, or a file of weights that a run wrote. If none is given, a LeNet-5 that
comes with this package reads.
"""

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from PIL import PngImagePlugin
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mnist_jax import files
from mnist_jax.commands import outputs
from mnist_jax.errors import UserError

if TYPE_CHECKING:
    from mnist_jax.photos.reading import Digit, Reading
    from mnist_jax.runs.load import Run

_RUN = flags.DEFINE_string(
    "run", None, "The run folder of the network that reads, or its file of weights."
)
_RAW = flags.DEFINE_bool(
    "raw",
    False,
    "The pictures are 28x28 and prepared as MNIST's: bright on black, centred. Then "
    "they may be .npy and IDX files of several images too.",
)
_SAVE = flags.DEFINE_string(
    "save",
    None,
    "A folder for a picture of each reading: what was found where, what the network "
    "saw, and how probable each digit is. For one PICTURE, the name of a PNG file too.",
)
_CSV = flags.DEFINE_string(
    "csv", None, "A CSV file to write, with a row for each digit."
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")

_ENDINGS = {
    *(".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".mpo", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
}
_PREPARED_ENDINGS = {".npy", ".idx"}
_SHOWN = 3  # of a digit's most probable classes
_STDIN = "standard input"
# All tables and pictures that this command writes have these in them.
_TABLE_MARK = b"picture,line,place,digit,probability,unsure"
_PICTURE_MARK = b"mnist-jax predict"


class _Picture(NamedTuple):
    """A picture that was read, where it is, and where its reading is drawn."""

    name: str
    source: Any
    target: Path | None
    reading: "Reading"


def main(arguments: list[str]) -> None:
    """Read the pictures and print what they say.

    Raises:
        UserError: the flags are wrong, or some picture could not be read; the others
            have been.
    """
    if not arguments:
        raise UserError("Name a picture: mnist-jax predict PICTURE ...")
    failures: list[str] = []
    pictures = list(_expand(arguments, failures))
    targets = _check_targets(arguments, pictures)
    # Imported late: bad flags need not wait for JAX.
    from mnist_jax import photos
    from mnist_jax.devices import compiler
    from mnist_jax.runs import load

    compiler.keep_compiled()
    run = load.load(_RUN.value)
    below, _ = run.threshold
    read = []

    def find(source: Any) -> Sequence[photos.Digit]:
        if _RAW.value:
            return photos.read_prepared(source)
        return photos.divide(run, below, photos.find_digits(source))

    for (name, source), target in zip(pictures, targets, strict=True):
        try:
            found = find(source)
        except photos.PhotoError as error:
            failures.append(f"{name} {error}.")
        except OSError as error:
            failures.append(f"{name}: {error.strerror or error}.")
        else:
            said = photos.classify(run, below, found)
            read.append(_Picture(name, source, target, said))
    _write(read, failures, run)
    if failures:
        raise UserError("\n".join(failures))


def _check_targets(
    arguments: Sequence[str], pictures: Sequence[tuple[str, Any]]
) -> list[Path | None]:
    """Return where the reading of each picture is drawn, without --save nowhere.

    Raises:
        UserError: --save or --csv cannot be written, or is one of the pictures.
    """
    inputs = [source for _, source in pictures if isinstance(source, Path)]
    if _CSV.value:
        outputs.check(
            Path(_CSV.value).expanduser(),
            flag=f"--csv={_CSV.value}",
            mark=_TABLE_MARK,
            inputs=inputs,
        )
    if not _SAVE.value:
        return [None] * len(pictures)
    save, flag = Path(_SAVE.value).expanduser(), f"--save={_SAVE.value}"
    if save.suffix.lower() == ".png":
        targets = [save] * len(pictures)
        if len(targets) > 1:
            raise UserError(f"{flag} is a file: for several pictures, name a folder.")
    else:
        targets = _named_after([name for name, _ in pictures], save)
        if save.is_file():
            raise UserError(f"{flag} is neither a folder nor a .png file.")
        if save.is_dir() and any(map(save.samefile, filter(os.path.isdir, arguments))):
            raise UserError(f"{flag} is a folder of pictures to read: name another.")
        if not save.parent.is_dir():
            raise UserError(f"{flag}: there is no folder {save.parent}.")
    for target in targets:
        if save.suffix.lower() == ".png" or save.is_dir():
            outputs.check(target, flag=flag, mark=_PICTURE_MARK, inputs=inputs)
    return [*targets]


def _named_after(names: Sequence[str], folder: Path) -> list[Path]:
    """Return a PNG file in the folder for each picture; equal names are numbered."""
    paths: list[Path] = []
    for name in names:
        stem, number = "stdin" if name == _STDIN else Path(name).stem, 0
        path = folder / f"{stem}.png"
        while path in paths:
            number += 1
            path = folder / f"{stem}-{number}.png"
        paths.append(path)
    return paths


def _expand(
    arguments: Sequence[str], failures: list[str]
) -> Iterator[tuple[str, Path | io.BytesIO]]:
    """Yield each picture's name and source; add to `failures` what names none."""
    endings = _PREPARED_ENDINGS | _ENDINGS if _RAW.value else _ENDINGS
    for argument in arguments:
        path = Path(argument).expanduser()
        if argument == "-":
            yield _STDIN, io.BytesIO(sys.stdin.buffer.read())
        elif path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in endings)
            if not inside:
                failures.append(f"{argument} is a folder without pictures.")
            yield from ((str(file), file) for file in inside)
        elif path.exists() or not glob.has_magic(argument):
            yield argument, path
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            yield from ((match, Path(match)) for match in matches)
        else:
            failures.append(f"{argument} matches no file.")


def _write(read: Sequence[_Picture], failures: Sequence[str], run: "Run") -> None:
    """Write what the flags ask for."""
    if _CSV.value:
        files.write_text(Path(_CSV.value).expanduser(), as_csv(read, run.classes))
    _save(read, run.classes)
    if _JSON.value:
        print(json.dumps(as_json(read, failures, run), indent=2))
    elif read:
        _show(read, run, Console())


def as_json(
    read: Sequence[_Picture], failures: Sequence[str], run: "Run"
) -> dict[str, Any]:
    """Return readings as JSON has them; boxes are left, top, right, bottom."""
    pictures = [
        {
            "picture": name,
            "reading": str(said),
            "unsure": said.unsure,
            "digits": [
                {
                    "digit": digit.label,
                    "probability": digit.probability,
                    "unsure": digit.unsure,
                    "box": list(digit.box),
                    "probabilities": dict(_ranked(digit, run)),
                }
                for digit in said.digits
            ],
        }
        for name, *_, said in read
    ]
    return {
        "network": str(run.path),
        "unsure_below": run.threshold[0],
        "pictures": pictures,
        "errors": list(failures),
    }


def as_csv(read: Sequence[_Picture], classes: Sequence[str]) -> str:
    """Return a row for each digit, with the probability of each class."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [*_TABLE_MARK.decode().split(","), "left", "top", "right", "bottom"]
    writer.writerow(columns + [f"p{name}" for name in classes])
    for name, *_, said in read:
        for place, digit in enumerate(said.digits):
            values = [digit.line, place, digit.label, digit.probability, digit.unsure]
            writer.writerow([name, *values, *digit.box, *digit.probabilities.tolist()])
    return file.getvalue()


def _ranked(digit: "Digit", run: "Run") -> list[tuple[str, float]]:
    """Return classes and their probabilities, the most probable first."""
    pairs = zip(run.classes, digit.probabilities.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


def _show(read: Sequence[_Picture], run: "Run", console: Console) -> None:
    """Print a table of the readings."""
    from mnist_jax.runs import load, threshold

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Picture", overflow="fold")
    table.add_column("Reading", style="bold", overflow="fold")
    for title in ("Most probable", "Second", "Third"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for name, *_, said in read:
        texts = [escape(name), escape(str(said).replace("\n", " / "))]
        for place, digit in enumerate(said.digits):
            ranks = [
                f"{escape(label)} {100 * probability:5.1f} %"
                for label, probability in _ranked(digit, run)[:_SHOWN]
            ]
            note = "[yellow]unsure[/]" if digit.unsure else ""
            table.add_row(*(["", ""] if place else texts), *ranks, note)
    console.print(table)
    below, source = run.threshold
    share = f"{100 * threshold.FALSE_ALARMS:g} %"
    console.print(
        f"\nRead by {load.name_of(run)}, {run.config.model.name}, right on "
        f"{100 * run.accuracy:.2f} % of its {run.tested_on} images. Unsure: below "
        f"{100 * below:.1f} %, as {share} of {source} are, or cut off another digit.",
        style="dim",
        markup=False,
        highlight=False,
    )


def _save(read: Sequence[_Picture], classes: Sequence[str]) -> None:
    """Write a picture of each reading that has a target."""
    from mnist_jax.report import strip

    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", _PICTURE_MARK.decode())
    for _, source, target, said in read:
        if target:
            target.parent.mkdir(exist_ok=True)
            drawn = strip.draw(source, said, classes, prepared=_RAW.value)
            with files.atomic_writer(target) as file:
                drawn.save(file, "PNG", pnginfo=mark)
