"""List every field of an experiment: type, default and meaning.

  mnist-jax fields

Each can be set in a file of configs/ and on the command line, as
--config.FIELD=VALUE.
"""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from mnist_jax import console, models
from mnist_jax.config import Experiment, Model, doc_of, fields_of, type_name

_INDENT = " " * 4


def main() -> None:
    """Print the fields."""
    console.LOGGER.info("\n".join(lines_of(Experiment, "--config")))


def lines_of(section: Any, flag: str) -> Iterator[str]:
    """Yield lines about the fields of a dataclass and of the sections inside it."""
    sections = []
    for name, field in fields_of(section).items():
        default = field.default
        if dataclasses.is_dataclass(default):
            sections.append((type(default), f"{flag}.{name}"))
        elif isinstance(default, tuple) and any(map(dataclasses.is_dataclass, default)):
            sections.append((type(default[0]), f"{flag}.{name}[0]"))
        else:
            yield from _describe(field, f"{flag}.{name}")
    if section is Model:
        yield f"{_INDENT}Networks: {', '.join(models.MODELS)}."
        for network in models.MODELS:
            for name, field in models.options_of(network).items():
                yield from _describe(field, f"{flag}.{name}", f" ({network})")
    for below, its_flag in sections:
        yield ""
        yield f"{its_flag}: {(below.__doc__ or '').splitlines()[0]}"
        yield ""
        yield from lines_of(below, its_flag)


def _describe(field: dataclasses.Field, flag: str, owner: str = "") -> Iterator[str]:
    yield f"{flag}{owner}: {type_name(field.type)} = {field.default!r}"
    yield from textwrap.wrap(
        doc_of(field), 80, initial_indent=_INDENT, subsequent_indent=_INDENT
    )
