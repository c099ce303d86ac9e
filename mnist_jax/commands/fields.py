"""List every field of an experiment: its name, type, default and meaning.

  mnist-jax fields

Each can be set in a file of configs/ and on the command line, as --config.FIELD=VALUE.
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from mnist_jax import models
from mnist_jax.commands import cli
from mnist_jax.config import Experiment, Model, doc_of, fields_of, type_name

_INDENT = " " * 4


def main() -> None:
    """Print the fields."""
    print("\n".join(lines_of(Experiment, "--config")))


def lines_of(section: Any, flag: str) -> Iterator[str]:
    """Yield lines about the fields of a section and of the sections below it.

    Args:
        section: the dataclass.
        flag: its name on the command line.
    """
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
        yield from _network_options(flag)
    for below, its_flag in sections:
        yield ""
        yield f"{its_flag}: {(below.__doc__ or '').splitlines()[0]}"
        yield ""
        yield from lines_of(below, its_flag)


def _network_options(flag: str) -> Iterator[str]:
    """Yield lines about the options that only some networks have."""
    having: dict[str, list[str]] = {}
    known: dict[str, Mapping[str, dataclasses.Field]] = {}
    for network in models.MODELS:
        known[network] = models.options_of(network)
        for name in known[network]:
            having.setdefault(name, []).append(network)
    for name, networks in having.items():
        field = known[networks[0]][name]
        yield from _describe(field, f"{flag}.{name}", f" ({', '.join(networks)})")


def _describe(field: dataclasses.Field, flag: str, owner: str = "") -> Iterator[str]:
    yield f"{flag}{owner}: {type_name(field.type)} = {field.default!r}"
    yield from textwrap.wrap(
        doc_of(field), 88, initial_indent=_INDENT, subsequent_indent=_INDENT
    )


def start() -> NoReturn:
    """Parse the flags and run."""
    cli.run(main, usage=__doc__ or "", verb="fields")
