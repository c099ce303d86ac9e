"""Declare fields with their meaning and range, and check values against them."""

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from mnist_jax.errors import CONTROL, UserError

T = TypeVar("T")

# Ranges for `option`.
SHARE: dict[str, Any] = {"at_least": 0, "at_most": 1}
BELOW_ONE: dict[str, Any] = {"at_least": 0, "below": 1}

_DOC, _RANGE, _IMPORTABLE = "doc", "range", "importable"


class ConfigError(UserError):
    """A config has an unknown field, or a field has an invalid value."""


@dataclasses.dataclass(frozen=True)
class _Range:
    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return (
            abs(value) < 1e308  # whole numbers may be larger than floats
            and self.at_least <= value <= self.at_most
            and self.above < value < self.below
        )

    def __str__(self) -> str:
        limits = [
            f"{name.replace('_', ' ')} {limit}"
            for name, limit in dataclasses.asdict(self).items()
            if math.isfinite(limit)
        ]
        return " and ".join(limits) or "a finite number"


def option(default: T, doc: str, *, importable: bool = False, **limits: float) -> T:
    """Declare a field of a dataclass.

    Args:
        default: the default; a dataclass instance makes the field a section.
        doc: the meaning of the field, for its users.
        importable: whether a dotted path may replace one of the choices.
        **limits: the ends of its range, `at_least` and `at_most` included, `above` and
            `below` excluded.
    """
    metadata = {_DOC: doc, _RANGE: _Range(**limits), _IMPORTABLE: importable}
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(section: Any) -> dict[str, dataclasses.Field]:
    """Return the fields of a section that can be set, by name.

    A dict is not among them: `Model.options` collects the values of undeclared fields.
    """
    fields = dataclasses.fields(section)
    return {field.name: field for field in fields if field.default_factory is not dict}


def can_be_parsed(kind: Any) -> bool:
    """Return whether `parse` knows what to do with fields of a type."""
    if get_origin(kind) is tuple:
        return all(each is ... or can_be_parsed(each) for each in get_args(kind))
    return kind in (int, float, str, bool) or get_origin(kind) is Literal


def doc_of(field: dataclasses.Field) -> str:
    """Return the meaning of a field, with its range if it has one."""
    doc, allowed = field.metadata.get(_DOC, ""), field.metadata.get(_RANGE)
    return f"{doc} Range: {allowed}." if allowed not in (None, _Range()) else doc


def parse(values: Any, section: type[T], *, flag: str = "--config") -> T:
    """Make a section of a config from checked values.

    Args:
        values: the fields by name: a ConfigDict, or nested dicts and lists as read from
            JSON. Missing fields have their defaults.
        section: the dataclass to make, `Experiment` or one inside it.
        flag: the name of the section on the command line, for messages.

    Raises:
        ConfigError: a field is unknown, or a value has the wrong type or is out of its
            range. The message names the field.
    """
    if not hasattr(values, "items"):
        raise ConfigError(
            f"{flag}={_shown(values)}: must be a section with the fields "
            f"{', '.join(fields_of(section))}."
        )
    known, given = fields_of(section), dict(values.items())
    others = {}
    if "options" in getattr(section, "__dataclass_fields__"):  # noqa: B009
        names = [name for name in given if name not in known]
        others["options"] = {name: given.pop(name) for name in names}
    return section(**parse_options(given, known.values(), flag=flag), **others)


def parse_options(
    values: Mapping[str, Any], known: Iterable[dataclasses.Field], *, flag: str
) -> dict[str, Any]:
    """Check the values of some of the known fields, and convert their types.

    Raises:
        ConfigError: as in `parse`.
    """
    fields = {field.name: field for field in known}
    for name in values:
        if name not in fields:
            hint = (
                did_you_mean(name, fields) or f" It has {', '.join(fields) or 'none'}."
            )
            raise ConfigError(f"{flag}.{name}: no such field.{hint}")
    return {
        name: _check(value, fields[name], f"{flag}.{name}")
        for name, value in values.items()
    }


def is_name(text: str) -> bool:
    """Return whether a text can be the path of a folder within another one."""
    parts = text.split("/")
    return not CONTROL.search(text) and all(part.strip(". ") for part in parts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "seed"?', or "" if no known name is similar."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""


def to_json(section: Any) -> Any:
    """Return a section as nested dicts and lists."""
    if dataclasses.is_dataclass(section):
        values = {name: getattr(section, name) for name in fields_of(section)}
        values |= getattr(section, "options", {})
        return {name: to_json(value) for name, value in values.items()}
    if isinstance(section, tuple | list):
        return [to_json(value) for value in section]
    return section


def type_name(kind: Any) -> str:
    """Return the name of a field's type, or its choices, for users."""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _check(value: Any, field: dataclasses.Field, flag: str) -> Any:
    if field.metadata.get(_IMPORTABLE) and isinstance(value, str) and ":" in value:
        return value
    value = _convert(value, field.type, flag)
    allowed = field.metadata.get(_RANGE)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and allowed and value not in allowed:
        raise ConfigError(f"{flag}={_shown(value)}: must be {allowed}.")
    return value


def _convert(value: Any, kind: Any, flag: str) -> Any:
    """Convert a value to the type of its field, or raise ConfigError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return parse(value, kind, flag=flag)  # type: ignore[arg-type]
    if origin is Literal:
        if value in arguments:
            return value
        known = ", ".join(map(str, arguments))
        raise ConfigError(f"{flag}={_shown(value)}: unknown (known: {known}).")
    if origin is types.UnionType:
        return None if value is None else _convert(value, arguments[0], flag)
    if origin is tuple:
        return _convert_tuple(value, arguments, flag)
    accepted = int | float if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, accepted):
        names = {int: "a whole number", float: "a number", str: "a string"}
        wanted = names.get(kind, "True or False")
        raise ConfigError(f"{flag}={_shown(value)}: must be {wanted}.")
    try:
        return kind(value)
    except OverflowError as error:
        raise ConfigError(f"{flag}={_shown(value)}: is too large.") from error


def _convert_tuple(value: Any, kinds: tuple[Any, ...], flag: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise ConfigError(f"{flag}={_shown(value)}: must be a list.")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ConfigError(f"{flag}={_shown(value)}: must be a list of {len(kinds)}.")
    return tuple(
        _convert(item, kind, f"{flag}[{index}]")
        for index, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _shown(value: Any) -> str:
    """Return a value for a message, on one line and shortened."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
