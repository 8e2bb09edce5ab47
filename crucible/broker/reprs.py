"""The bounded ``repr`` of arguments that Celery puts into ``argsrepr`` and ``kwargsrepr``.

Text equals what celery ``utils/saferepr.py`` (5.7) gives for the same value, length and depth.
Rules taken over from there: numbers as ``str``, strings in single quotes with only ``'`` escaped,
containers below the deepest level as ``[...]``, every piece that reaches the remaining length cut
at its last space, and after the end ``, ...`` with the brackets still open closed again.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Number
from typing import Any

#: Characters of ``argsrepr`` and of ``kwargsrepr`` (celery ``app/amqp.py``).
MAX_LENGTH = 1024
#: Levels of containers shown (celery ``task_repr_maxlevels`` and its default).
MAX_LEVELS = 3


class _TooLong(Exception):  # noqa: N818 - a way out, never seen outside
    """The quick way met something it does not handle."""


class _Full(Exception):  # noqa: N818 - a way out, never seen outside
    """No length is left."""


def bounded_repr(value: Any, max_length: int = MAX_LENGTH, max_levels: int = MAX_LEVELS) -> str:
    """Celery's repr of ``value`` with about ``max_length`` characters of content."""
    if type(value) in _SHOWN_QUICKLY:
        try:
            text = _quick(value, max_levels, max_length, ())
        except _TooLong:
            pass
        else:
            # Nothing is cut while all of it is shorter than the bound.
            if len(text) < max_length:
                return text
    return _Writer(max_length, max_levels).write(value)


def _quick(value: Any, levels: int, limit: int, parents: tuple[Any, ...]) -> str:
    """The uncut text of plain built-in values.

    Raises:
        _TooLong: another type, a cycle, or a text that cannot fit.
    """
    kind = type(value)
    if kind is str:
        if len(value) >= limit:
            raise _TooLong
        return "'" + value.replace("'", "\\'") + "'" if "'" in value else f"'{value}'"
    if kind is int or kind is float or kind is bool or value is None:
        return str(value)
    if kind not in _SHOWN_QUICKLY or len(value) > limit:
        raise _TooLong
    if levels == 0:
        return _elided(value)
    for parent in parents:
        if parent is value:
            raise _TooLong
    inside = (*parents, value)
    below = levels - 1
    if kind is dict:
        pairs = [
            # A key starts afresh: its own levels, nothing above it.
            f"{_quick(key, MAX_LEVELS, limit, ())}: {_quick(item, below, limit, inside)}"
            if type(key) is not str or "'" in key
            else f"'{key}': {_quick(item, below, limit, inside)}"
            for key, item in value.items()
        ]
        return "{" + ", ".join(pairs) + "}"
    items = [_quick(item, below, limit, inside) for item in value]
    if kind is list:
        return "[" + ", ".join(items) + "]"
    return f"({items[0]},)" if len(items) == 1 else "(" + ", ".join(items) + ")"


_SHOWN_QUICKLY = frozenset({list, tuple, dict})


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if isinstance(value, dict):
        return "{", "}"
    if isinstance(value, list):
        return "[", "]"
    if type(value) is set:
        return "{", "}"
    return f"{type(value).__name__}({{", "})"


def _elided(value: Any) -> str:
    opening, closing = _brackets(value)
    return f"{opening}...{closing}"


def _cut(text: str, length: int) -> str:
    """Celery ``utils/text.py`` ``truncate``: at ``length`` or more, up to the last space."""
    if length and len(text) >= length:
        return text[:length].rsplit(" ", 1)[0] + "..."
    return text


def _own_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a foreign __repr__ may raise anything
        return f"<Unrepresentable {type(value)!r}{id(value):#x}: {error!r}>"


def _bytes_text(value: bytes, length: int) -> str:
    shown = value[:length] if length and len(value) > length else value
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = shown.hex()
    return f"b'{text}...'" if shown is not value else f"b'{text}'"


class _Writer:
    """Writes one value piece by piece, keeping account of the length left."""

    def __init__(self, max_length: int, max_levels: int) -> None:
        self._left = max_length
        self._levels = max_levels
        self._parts: list[str] = []
        self._open: list[str] = []
        self._seen: set[int] = set()

    def write(self, value: Any) -> str:
        try:
            self._value(value)
        except _Full:
            self._parts.append(", ...")
            self._parts.extend(reversed(self._open))
        return "".join(self._parts)

    def _need_room(self) -> None:
        if self._left <= 0:
            raise _Full

    def _put(self, text: str) -> None:
        self._need_room()
        self._parts.append(text)
        self._left -= len(text)

    def _value(self, value: Any) -> None:
        if isinstance(value, (str, bytes)):
            self._need_room()
            self._put(self._quoted(value))
        elif isinstance(value, Number) and not isinstance(value, Decimal):
            self._text(str(value))
        elif isinstance(value, (tuple, dict, list, set, frozenset)):
            self._container(value)
        else:
            self._text(_own_repr(value))

    def _quoted(self, value: str | bytes) -> str:
        if isinstance(value, bytes):
            return _bytes_text(value, self._left)
        return "'" + _cut(value, self._left).replace("'", "\\'") + "'"

    def _text(self, text: str) -> None:
        self._need_room()
        self._put(_cut(text, self._left))

    def _container(self, value: Any) -> None:
        if isinstance(value, (set, frozenset)) and not value:
            self._text(f"{type(value).__name__}()")
        elif self._levels and len(self._open) >= self._levels:
            self._put(_elided(value))
        elif id(value) in self._seen:
            self._text(f"<Recursion on {type(value).__name__} with id={id(value)}>")
        else:
            self._seen.add(id(value))
            self._shown(value)
            self._seen.discard(id(value))

    def _shown(self, value: Any) -> None:
        opening, closing = _brackets(value)
        self._put(opening)
        self._open.append(closing)
        pairs = isinstance(value, dict)
        for position, item in enumerate(value.items() if pairs else value):
            if position:
                self._put(", ")
            if pairs:
                self._pair(*item)
            else:
                self._value(item)
        self._open.pop()
        self._parts.append(closing)
        # A closing bracket is free once the length is used up, and counted before.
        if self._left > 0:
            self._left -= len(closing)

    def _pair(self, key: Any, item: Any) -> None:
        self._need_room()
        self._put(bounded_repr_of_key(key, self._left, self._levels))
        self._put(": ")
        self._value(item)


def bounded_repr_of_key(key: Any, max_length: int, max_levels: int) -> str:
    """A dictionary's key, bounded by what is left for the whole."""
    return _Writer(max_length, max_levels).write(key)
