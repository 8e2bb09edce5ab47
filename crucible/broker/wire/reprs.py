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


class _NotPlain(Exception):  # noqa: N818 - a way out, never seen outside
    """The quick way met something it does not handle."""


class _Full(Exception):  # noqa: N818 - a way out, never seen outside
    """No length is left."""


def bounded_repr(value: Any, max_length: int = MAX_LENGTH, max_levels: int = MAX_LEVELS) -> str:
    """Celery's repr of ``value`` with about ``max_length`` characters of content."""
    if max_levels and type(value) is list and (texts := _texts(value, max_length)):
        return texts
    if type(value) in _CONTAINERS:
        try:
            text = _quick(value, max_levels, max_length, ())
        except _NotPlain:
            pass
        else:
            # Nothing is cut while all of it is shorter than the bound.
            if len(text) < max_length:
                return text
    return _Writer(max_length, max_levels).write(value)


_CONTAINERS = frozenset({list, tuple, dict})
_SHOWN_AS_STR = frozenset({int, float, bool, type(None)})


def _texts(value: list[Any], max_length: int) -> str | None:
    """A list of strings, as most arguments are, without the ceremony; None for any other."""
    try:
        inner = "', '".join(value)
    except TypeError:
        return None
    if len(inner) + 4 < max_length and inner.count("'") == 2 * len(value) - 2:
        return f"['{inner}']"
    shown, left = "[", max_length - 1
    for position, item in enumerate(value):
        if position and left > 0:
            shown, left = shown + ", ", left - 2
        if left <= 0:
            return shown + ", ...]"
        text = _quoted(_cut(item, left))
        shown, left = shown + text, left - len(text)
    return shown + "]"


def _quick(value: Any, levels: int, limit: int, parents: tuple[Any, ...]) -> str:
    """The uncut text of a plain built-in container of plain values.

    Raises:
        _NotPlain: another type inside, a cycle, or a text that cannot fit.
    """
    if levels == 0:
        return _elided(value)
    if len(value) > limit:
        raise _NotPlain
    for parent in parents:
        if parent is value:
            raise _NotPlain
    parts = []
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind is str:
            if len(item) >= limit:
                raise _NotPlain
            parts.append(f"'{item}'" if "'" not in item else _quoted(item))
        elif kind in _SHOWN_AS_STR:
            parts.append(str(item))
        elif kind in _CONTAINERS:
            parts.append(_quick(item, levels - 1, limit, (*parents, value)))
        else:
            raise _NotPlain
    return _joined(value, parts)


def _joined(value: Any, parts: list[str]) -> str:
    if type(value) is dict:
        return "{" + ", ".join(map(_pair, value, parts)) + "}"
    if type(value) is list:
        return "[" + ", ".join(parts) + "]"
    return f"({parts[0]},)" if len(parts) == 1 else "(" + ", ".join(parts) + ")"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _pair(key: Any, shown: str) -> str:
    if type(key) is str:
        return f"{_quoted(key)}: {shown}"
    if type(key) in _SHOWN_AS_STR:
        return f"{key}: {shown}"
    raise _NotPlain


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
            self._put(self._shown_text(value))
        elif isinstance(value, Number) and not isinstance(value, Decimal):
            self._text(str(value))
        elif isinstance(value, (tuple, dict, list, set, frozenset)):
            self._container(value)
        else:
            self._text(_own_repr(value))

    def _shown_text(self, value: str | bytes) -> str:
        if isinstance(value, bytes):
            return _bytes_text(value, self._left)
        return _quoted(_cut(value, self._left))

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
        # A key starts afresh: its own levels, nothing above it.
        self._put(_Writer(self._left, self._levels).write(key))
        self._put(": ")
        self._value(item)
