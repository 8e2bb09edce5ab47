"""Splitting a body of many items as it arrives: a JSON array, or a line for each (NDJSON).

Pure: bytes in, the bytes of whole items out. What is inside an item is left to its decoder, so a
malformed one is an error of that item alone; only what separates items is checked here. The work
is linear in the bytes, however they are cut, and no more than one item is held.
"""

from __future__ import annotations

import re
from typing import Protocol

from crucible.errors import InputError

#: Possessive, so that no bytes make the matcher go back.
_CHARACTERS = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_IN_STRING = re.compile(_CHARACTERS, re.DOTALL)
#: An object without others in it, and the comma behind it.
_FLAT = re.compile(
    rb'[ \t\r\n]*+(\{[^"{}\[\]]*+(?:"' + _CHARACTERS + rb'"[^"{}\[\]]*+)*+\})[ \t\r\n]*+,',
    re.DOTALL,
)
_MARK = re.compile(rb'["\[\]{},]')
_BLANK = b" \t\r\n"
_QUOTE, _COMMA, _CLOSE = b'"', b",", b"]"


class ItemSplitter(Protocol):
    """Takes the bytes of a body and gives those of its items; None for one that is too large."""

    def feed(self, data: bytes) -> list[bytes | None]:
        """The items that ``data`` completes; raises InputError where it is malformed."""

    def finish(self) -> list[bytes | None]:
        """What the end of the body completes; raises InputError where it is cut short."""


class LineSplitter:
    """Items of NDJSON: one a line, blank lines are none.

    Args:
        most: bytes of the largest item.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._partial = bytearray()
        self._is_dropping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """See ``ItemSplitter``."""
        first, *others = data.split(b"\n")
        self._add(first)
        if not others:
            return []
        last = others.pop()
        items = self.finish()
        items += [line if len(line) <= self._most else None for line in others if line.strip()]
        self._add(last)
        return items

    def _add(self, data: bytes) -> None:
        if self._is_dropping:
            return
        self._partial += data
        if len(self._partial) > self._most:
            self._is_dropping = True
            self._partial.clear()

    def finish(self) -> list[bytes | None]:
        """See ``ItemSplitter``; the last line needs no line end."""
        line, was_dropping = bytes(self._partial), self._is_dropping
        self._partial.clear()
        self._is_dropping = False
        if was_dropping:
            return [None]
        return [line] if line.strip() else []


class ArraySplitter:
    """Items of a JSON array.

    Args:
        most: bytes of the largest item.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()
        #: Where the item that is being scanned begins, and up to where it was scanned.
        self._start = self._at = 0
        self._depth = 0
        self._is_open = self._is_closed = self._in_string = self._is_dropping = False
        #: A comma was the last thing before the item.
        self._after_comma = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """See ``ItemSplitter``."""
        self._buffer += data
        items: list[bytes | None] = []
        if self._is_open or self._opened():
            while not self._is_closed and self._scan(items):
                pass
        if self._is_closed:
            self._check_end()
            return items
        del self._buffer[: self._start]
        self._at -= self._start
        self._start = 0
        if len(self._buffer) > self._most:
            # Its end is still looked for, its bytes are not needed for that.
            self._is_dropping = True
            del self._buffer[: self._at]
            self._at = 0
        return items

    def _opened(self) -> bool:
        """Whether the bracket that opens the array has come; nothing else may come before it."""
        text = self._buffer.lstrip(_BLANK)
        if not text:
            self._buffer.clear()
            return False
        if text[:1] != b"[":
            raise InputError(
                "", "the body must be a JSON array, or one JSON object a line (NDJSON)"
            )
        self._buffer = text[1:]
        self._is_open = True
        return True

    def _take_flat(self, items: list[bytes | None]) -> None:
        """Take the items up to the first that is no flat object; nearly all of them are."""
        buffer, at, match, most = self._buffer, self._at, _FLAT.match, self._most
        while flat := match(buffer, at):
            found = flat[1]
            items.append(found if len(found) <= most else None)
            at = flat.end()
            self._after_comma = True
        self._start = self._at = at

    def _scan(self, items: list[bytes | None]) -> bool:
        """Scan up to the next mark; False where more bytes are needed."""
        # Where an item begins, that is; of one that is dropped the beginning is gone.
        if self._at == self._start and not (self._is_dropping or self._in_string):
            self._take_flat(items)
        buffer, at = self._buffer, self._at
        if self._in_string:
            inside = _IN_STRING.match(buffer, at)
            assert inside is not None
            self._at = inside.end()
            if buffer[self._at : self._at + 1] != _QUOTE:
                return False
            self._at += 1
            self._in_string = False
            return True
        mark = _MARK.search(buffer, at)
        if mark is None:
            self._at = len(buffer)
            return False
        self._at = mark.end()
        self._take(mark[0], items)
        return True

    def _take(self, mark: bytes, items: list[bytes | None]) -> None:
        if mark == _QUOTE:
            self._in_string = True
        elif mark in b"{[":
            self._depth += 1
        elif self._depth:
            if mark != _COMMA:
                self._depth -= 1
        elif mark == _COMMA:
            self._end_item(items)
            self._after_comma = True
        elif mark == _CLOSE:
            self._is_closed = True
            is_empty = not self._buffer[self._start : self._at - 1].strip(_BLANK)
            if self._after_comma or self._is_dropping or not is_empty:
                self._end_item(items)
            self._start = self._at
        else:
            raise InputError("", "the body is not valid JSON: a bracket closes nothing")

    def _end_item(self, items: list[bytes | None]) -> None:
        item = bytes(self._buffer[self._start : self._at - 1].strip(_BLANK))
        if self._is_dropping or len(item) > self._most:
            items.append(None)
        elif item:
            items.append(item)
        else:
            raise InputError("", "the body is not valid JSON: a comma has no item beside it")
        self._is_dropping = False
        self._start = self._at

    def _check_end(self) -> None:
        if self._buffer[self._start :].strip(_BLANK):
            raise InputError("", "the body is not valid JSON: something follows the array")
        self._buffer.clear()
        self._start = self._at = 0

    def finish(self) -> list[bytes | None]:
        """See ``ItemSplitter``."""
        if not self._is_closed:
            raise InputError("", "the body ends before its array does")
        return []
