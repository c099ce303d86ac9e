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
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from PIL import Image, PngImagePlugin
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mnist_jax import files
from mnist_jax.commands import outputs
from mnist_jax.data import raster
from mnist_jax.errors import UserError

if TYPE_CHECKING:
    from mnist_jax.photos.reading import Digit, Reading
    from mnist_jax.runs.load import Network

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
    "A folder for a picture of each reading: the boxes of the digits, the images that "
    "the network saw, and the probabilities.",
)
_CSV = flags.DEFINE_string(
    "csv", None, "A CSV file to write, with a row for each digit."
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")

_STDIN = "standard input"
_COLUMNS = "picture,line,place,digit,probability,unsure,left,top,right,bottom"
_SOFTWARE = "mnist-jax predict"  # an entry of the pictures that are saved


class _Picture(NamedTuple):
    """A picture that was read, and the file that its reading is drawn in."""

    name: str
    source: Any
    target: Path
    reading: "Reading"


def main(arguments: list[str]) -> None:
    """Read the pictures and print the readings.

    Raises:
        UserError: the flags are wrong, or some picture could not be read, after all
            others have been read.
    """
    if not arguments:
        raise UserError("Name a picture: mnist-jax predict PICTURE ...")
    failures: list[str] = []
    pictures = list(_expand(arguments, failures))
    targets = _named_after([name for name, _ in pictures])
    _check_outputs(arguments, [source for _, source in pictures], targets)
    # Imported late: bad flags need not wait for JAX.
    from mnist_jax import photos
    from mnist_jax.devices import compiler
    from mnist_jax.runs import load

    compiler.keep_compiled()
    run = load.load(_RUN.value)
    below, _ = run.threshold
    read = []
    for (name, source), target in zip(pictures, targets, strict=True):
        try:
            if _RAW.value:
                found = photos.read_prepared(source)
            else:
                found = photos.divide(run, below, photos.find_digits(source))
        except photos.PhotoError as error:
            failures.append(f"{name} {error}.")
        except OSError as error:
            failures.append(f"{name}: {error.strerror or error}.")
        else:
            said = photos.classify(run, below, found)
            read.append(_Picture(name, source, target, said))
    if _CSV.value:
        files.write_text(Path(_CSV.value).expanduser(), as_csv(read, run.classes))
    if _SAVE.value:
        _save(read, run.classes)
    if _JSON.value:
        print(json.dumps(as_json(read, failures, run), indent=2))
    elif read:
        _show(read, run, Console())
    if failures:
        raise UserError("\n".join(failures))


def _expand(arguments: Sequence[str], failures: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield each picture's name and source; add to `failures` what names none."""
    known = Image.registered_extensions().items()
    endings = {ending for ending, kind in known if kind in raster.FORMATS}
    if _RAW.value:
        endings |= {".npy", ".idx"}
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


def _named_after(names: Sequence[str]) -> list[Path]:
    """Return a file in --save for each picture; equal names are numbered."""
    paths: list[Path] = []
    for name in names:
        stem = "stdin" if name == _STDIN else Path(name).stem
        path, number = Path(_SAVE.value or "").expanduser() / f"{stem}.png", 0
        while path in paths:
            number += 1
            path = path.with_name(f"{stem}-{number}.png")
        paths.append(path)
    return paths


def _check_outputs(
    arguments: Sequence[str], sources: Sequence[Any], targets: Sequence[Path]
) -> None:
    """Raise UserError if --csv or --save cannot be written, or would harm an input."""
    inputs = [source for source in sources if isinstance(source, Path)]
    if _CSV.value:
        path, flag = Path(_CSV.value).expanduser(), f"--csv={_CSV.value}"
        outputs.check(path, flag=flag, mark=_COLUMNS.encode(), inputs=inputs)
    if _SAVE.value:
        folder, flag = Path(_SAVE.value).expanduser(), f"--save={_SAVE.value}"
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{flag} is not a folder.")
        if not folder.parent.is_dir():
            raise UserError(f"{flag}: there is no folder {folder.parent}.")
        read = [Path(each).expanduser() for each in arguments]
        if folder.exists() and any(p.is_dir() and folder.samefile(p) for p in read):
            raise UserError(f"{flag} is a folder of pictures to read: name another.")
        for target in filter(Path.exists, targets):
            outputs.check(target, flag=flag, mark=_SOFTWARE.encode(), inputs=inputs)


def as_json(
    read: Sequence[_Picture], failures: Sequence[str], run: "Network"
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
    writer.writerow([*_COLUMNS.split(","), *(f"p{name}" for name in classes)])
    for name, *_, said in read:
        for place, digit in enumerate(said.digits):
            values = [digit.line, place, digit.label, digit.probability, digit.unsure]
            writer.writerow([name, *values, *digit.box, *digit.probabilities.tolist()])
    return file.getvalue()


def _ranked(digit: "Digit", run: "Network") -> list[tuple[str, float]]:
    """Return classes and their probabilities, the most probable first."""
    pairs = zip(run.classes, digit.probabilities.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


def _show(read: Sequence[_Picture], run: "Network", console: Console) -> None:
    """Print a table of the readings."""
    from mnist_jax.runs import load

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("Picture", "Reading", "Most probable", "Second", "Third", ""):
        table.add_column(title, overflow="fold")
    for name, *_, said in read:
        texts = [escape(name), f"[bold]{escape(str(said))}[/]".replace("\n", " / ")]
        for digit in said.digits:
            ranks = [
                f"{escape(label)} {100 * probability:5.1f} %"
                for label, probability in _ranked(digit, run)
            ]
            # There may be only two classes.
            three = [*ranks, "", ""][:3]
            table.add_row(*texts, *three, "[yellow]unsure[/]" if digit.unsure else "")
            texts = ["", ""]
    console.print(table)
    below, source = run.threshold
    console.print(
        f"\nRead by {load.name_of(run)}, {run.config.model.name}, right on "
        f"{run.accuracy:.2%} of its {run.tested_on} images. Unsure: below {below:.1%}, "
        f"as {load.UNSURE_SHARE:.0%} of {source} are, or cut off another digit.",
        style="dim",
        markup=False,
        highlight=False,
    )


def _save(read: Sequence[_Picture], classes: Sequence[str]) -> None:
    """Draw each reading into its file."""
    from mnist_jax.report import strip

    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", _SOFTWARE)
    for _, source, target, said in read:
        target.parent.mkdir(exist_ok=True)
        drawn = strip.draw(source, said, classes, prepared=_RAW.value)
        with files.atomic_writer(target) as file:
            drawn.save(file, "PNG", pnginfo=mark)
