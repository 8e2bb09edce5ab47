"""Python values in JSON tables: what JSON cannot represent is ``{"$kind": …}``.

Used by the table of golden calls, for stock clients as well as for Crucible, so that both send the
same values. Imports nothing outside the standard library.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any

#: Builds a signature from a decoded ``{"task", "args", "kwargs", "options", "immutable"}``.
SignatureFactory = Callable[[dict[str, Any]], Any]


def _repeat(value: list[Any]) -> str:
    text, times = value
    return str(text) * int(times)


_KINDS: dict[str, Callable[[Any], Any]] = {
    "$datetime": dt.datetime.fromisoformat,
    "$date": dt.date.fromisoformat,
    "$time": dt.time.fromisoformat,
    "$seconds": lambda seconds: dt.timedelta(seconds=seconds),
    "$decimal": decimal.Decimal,
    "$uuid": uuid.UUID,
    "$base64": base64.b64decode,
    "$repeat": _repeat,
}


def _no_signatures(spec: dict[str, Any]) -> Any:
    raise ValueError(f"signatures are not supported here: {spec!r}")


def decode(value: Any, signature: SignatureFactory = _no_signatures) -> Any:
    """The Python value that ``value`` represents.

    Args:
        value: plain JSON, or ``{"$datetime": iso}``, ``{"$date": iso}``, ``{"$time": iso}``,
            ``{"$seconds": n}`` (a timedelta), ``{"$decimal": text}``, ``{"$uuid": text}``,
            ``{"$base64": text}`` (bytes), ``{"$tuple": […]}``, ``{"$repeat": [text, times]}``,
            ``{"$signature": {…}}``; may be nested.
        signature: builds a signature; raises by default.
    """
    if isinstance(value, list):
        return [decode(item, signature) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, inner),) = value.items()
        if kind == "$tuple":
            return tuple(decode(item, signature) for item in inner)
        if kind == "$signature":
            return signature({key: decode(item, signature) for key, item in inner.items()})
        if kind in _KINDS:
            return _KINDS[kind](inner)
    return {key: decode(item, signature) for key, item in value.items()}
