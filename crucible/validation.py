"""Errors of decoders as ``InputError``, in the words of JSON and with the field that is wrong.

msgspec names Python's types and writes the path into the text; a client knows neither.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from msgspec import inspect

from crucible.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Characters that an error repeats of what a client sent: of a path, and of the sentence.
PATH_SHOWN, DETAIL_SHOWN = 200, 400
#: "Object missing required field `code`", "Object contains unknown field `x`".
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`", re.DOTALL)
#: "Expected `int`, got `str` - at `$.limits.pids`"; a path of `$` alone is the whole value.
_PATH = re.compile(r" - at `\$\.?([^`]*)`\Z")
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?(.*)", re.DOTALL)
_NO_CHOICE = "invalid enum value"
_PATTERN = re.compile(r" matching regex (['\"])(.*)\1", re.DOTALL)
_LENGTH = re.compile(r" of length ([<>]=?) (\d+)")
_BOUND = re.compile(r" ([<>]=?) (-?[0-9.e+]+)")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}
_COMPARISONS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_UNITS = {"str": "characters", "array": "entries", "object": "entries"}


def input_error(error: msgspec.ValidationError, kind: Any = None) -> InputError:
    """A schema error as one that names the field.

    Args:
        error: msgspec's.
        kind: the type that was decoded; with it the values are named of which a field has one.
    """
    text = str(error)
    path = match[1] if (match := _PATH.search(text)) else ""
    detail = _PATH.sub("", text)
    named, detail = _named(detail)
    if kind is not None and detail.startswith(_NO_CHOICE):
        choices = ", ".join(_choices_of(kind, _steps_of(path)))
        detail = f"must be one of {choices}" if choices else detail
    within = f"{path}.{named}" if path and named else named or path
    found = InputError(within[:PATH_SHOWN], detail[:DETAIL_SHOWN])
    if named:
        # It may have dots and brackets of its own.
        found.steps = (*_steps_of(path), named)
    return found


def _named(detail: str) -> tuple[str, str]:
    """The key an error is about where its path ends before it, and what is wrong."""
    if match := _MISSING.match(detail):
        return match[1], "is missing"
    if match := _UNKNOWN.match(detail):
        return match[1], "is no field that is known here"
    return "", in_words(detail)


def in_words(text: str) -> str:
    """A sentence of msgspec's in the words of JSON."""
    match = _EXPECTED.fullmatch(text)
    if match is None:
        return text[:1].lower() + text[1:]
    wanted, got, bound = match.groups()
    sentence = f"must be {' or '.join(map(_type, wanted.split(' | ')))}"
    if got is not None:
        return f"{sentence}, not {'a fraction' if got == 'float' else _type(got)}"
    return sentence + _bound(wanted, bound)


def _type(name: str) -> str:
    return _TYPES.get(name, name)


def _bound(wanted: str, text: str) -> str:
    if match := _PATTERN.fullmatch(text):
        # As a Python literal; ``\\Z`` is JSON Schema's ``$``.
        pattern = match[2].replace("\\\\", "\\").replace("\\Z", "$")
        return f" that matches the pattern {pattern}"
    if match := _LENGTH.fullmatch(text):
        return f" of {_COMPARISONS[match[1]]} {match[2]} {_UNITS.get(wanted, 'bytes')}"
    if match := _BOUND.fullmatch(text):
        return f" of {_COMPARISONS[match[1]]} {float(match[2]):g}"
    return text


def _choices_of(kind: Any, steps: Iterable[str]) -> list[str]:
    """The values of a field that has a choice of some; empty for any other.

    Types are looked at once, and only when something was refused.

    Args:
        kind: a type that msgspec decodes.
        steps: keys and indexes that lead to the field.
    """
    places = list(_plain(_information(kind)))
    for step in steps:
        places = [
            plain for place in places for inner in _below(place, step) for plain in _plain(inner)
        ]
    choices = (place.values for place in places if isinstance(place, inspect.LiteralType))
    return [str(value) for values in choices for value in values]


@functools.cache
def _information(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _plain(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union, and what is behind notes on a type."""
    if isinstance(kind, inspect.Metadata):
        yield from _plain(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _plain(one)
    else:
        yield kind


def _below(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        yield from (field.type for field in kind.fields if field.encode_name == step)
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield kind.item_type
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type


def not_json(error: Exception) -> InputError:
    """The error of a body that no decoder could read."""
    if isinstance(error, UnicodeDecodeError):
        return InputError("", f"the body is not UTF-8 (byte {error.start})")
    if isinstance(error, RecursionError):
        return InputError("", "the body is nested too deeply")
    return InputError("", f"the body is not valid JSON: {error}")


def pointer_of(error: InputError) -> str:
    """Where in the body an error is, as a JSON pointer in a URI fragment (RFC 6901, 6)."""
    steps = _steps_of(error.field) if error.steps is None else error.steps
    return "#" + "".join(f"/{_escaped(str(step))}" for step in steps)


def _steps_of(path: str) -> Iterable[str]:
    if path.startswith("env."):
        # Names of variables may have dots; below them is nothing.
        return "env", path.removeprefix("env.")
    return tuple(index or key for index, key in _STEP.findall(path))


def _escaped(step: str) -> str:
    pointer = step.replace("~", "~0").replace("/", "~1")
    return quote(pointer, safe="!$&'()*+,;=:@/?", errors="replace")


def quoted(text: str, most: int = 40) -> str:
    """What a client sent, shortened, as JSON writes it."""
    return msgspec.json.encode(text[:most].encode(errors="replace").decode()).decode()
