"""Kombu's JSON dialect: values JSON has no word for, as ``{"__type__": …, "__value__": …}``.

Source: kombu ``utils/json.py``, the same in 5.3 to 5.7. Text is ASCII with ``", "`` and ``": "``
between the parts, as the standard library writes it, so that equal values give equal bytes.
"""

from __future__ import annotations

import base64
import json
import uuid
from datetime import date, datetime, time
from decimal import Decimal
from json import encoder as json_encoder
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TYPE = "__type__"
_VALUE = "__value__"
_ENVELOPE_KEYS = {_TYPE, _VALUE}


def _base64_text(value: str) -> bytes:
    return base64.b64decode(value.encode())


def _uuid(value: dict[str, str]) -> uuid.UUID:
    return uuid.UUID(hex=value["hex"])


def _date(value: str) -> date:
    return datetime.fromisoformat(value).date()


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "bytes": str.encode,
    "base64": _base64_text,
    "datetime": datetime.fromisoformat,
    "date": _date,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": _uuid,
}


#: In kombu's order: a datetime is a date too, and its own name must win.
_FORMS: tuple[tuple[type, str, Callable[[Any], object]], ...] = (
    (datetime, "datetime", datetime.isoformat),
    (date, "date", lambda value: value.isoformat()),
    (time, "time", lambda value: value.isoformat()),
    (Decimal, "decimal", str),
    (uuid.UUID, "uuid", lambda value: {"hex": value.hex}),
)


def _typed(name: str, value: object) -> dict[str, object]:
    return {_TYPE: name, _VALUE: value}


def encode_special(value: Any) -> Any:
    """What stands in JSON for ``value``, which JSON itself cannot carry.

    An object with a ``__json__`` method is asked first, as kombu does.

    Raises:
        TypeError: the value has no form in this dialect.
    """
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    for kind, name, form in _FORMS:
        if isinstance(value, kind):
            return _typed(name, form(value))
    if isinstance(value, bytes):
        return _bytes_form(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _bytes_form(value: bytes) -> dict[str, object]:
    try:
        return _typed("bytes", value.decode())
    except UnicodeDecodeError:
        return _typed("base64", base64.b64encode(value).decode())


def decode_special(value: dict[str, Any]) -> Any:
    """The value an object of the dialect stands for; any other object unchanged.

    Raises:
        ValueError: an unknown type name, or a value its type cannot have.
    """
    if value.keys() != _ENVELOPE_KEYS:
        return value
    name = value[_TYPE]
    decoder = _DECODERS.get(name) if isinstance(name, str) else None
    if decoder is None:
        raise ValueError(f"unsupported __type__ {name!r}")
    try:
        return decoder(value[_VALUE])
    except (TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"bad value of __type__ {name!r}") from error


def _make_encoder() -> Callable[[Any], str]:
    """A function from value to text that keeps its C encoder between calls.

    ``json.JSONEncoder.encode`` builds a new one each time, which costs as much as a small body.
    Without markers a circular value ends in RecursionError, raised as ValueError.
    """
    c_make = getattr(json_encoder, "c_make_encoder", None)
    if c_make is None:
        return json.JSONEncoder(default=encode_special).encode
    quote = json_encoder.encode_basestring_ascii
    encode = c_make(None, encode_special, quote, None, ": ", ", ", False, False, True)
    join = "".join

    def dumps(value: Any) -> str:
        try:
            return join(encode(value, 0))
        except RecursionError:
            raise ValueError("value is circular or nested too deeply") from None

    return dumps


#: Value to JSON text. Raises TypeError for what the dialect cannot carry, ValueError for a cycle.
dumps = _make_encoder()
#: A string to its JSON text with quotes, ASCII only.
quote: Callable[[str], str] = json_encoder.encode_basestring_ascii

#: Characters from which on ``_encode_text`` is quicker.
_LONG = 200
_encode_text = msgspec.json.Encoder().encode


def dumps_texts(values: Sequence[Any]) -> str | None:
    """What ``dumps`` makes of a sequence of strings; None where there is anything else in it."""
    for value in values:
        if type(value) is not str:
            return None
    return f"[{', '.join(map(quote_text, values))}]"


def quote_text(text: str) -> str:
    """What ``quote`` makes of a string, sooner where it is long."""
    # Of ASCII the two encoders write only DEL differently.
    if len(text) < _LONG or not text.isascii() or "\x7f" in text:
        return quote(text)
    return _encode_text(text).decode("ascii")


_fast_loads = msgspec.json.Decoder().decode


def loads(data: bytes) -> Any:
    """Decode UTF-8 JSON of the dialect.

    The quick decoder reads what has no typed values in it; what it refuses and the standard
    library takes (NaN, lone surrogates, huge numbers) is read by the latter, as stock would.

    Raises:
        ValueError: not JSON, not UTF-8, nested too deeply, or a bad typed value.
    """
    # ``\u005f`` is an underscore that a plain search would not see.
    typed = b"__type__" in data or b"\\u005" in data
    try:
        if not typed:
            try:
                return _fast_loads(data)
            except msgspec.DecodeError:
                return json.loads(data.decode())
        return json.loads(data.decode(), object_hook=decode_special)
    except RecursionError:
        raise ValueError("nested too deeply") from None
