"""Parameters of a query string that several handlers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.errors import InputError

if TYPE_CHECKING:
    from aiohttp import web


def limit_of(request: web.Request, default: int, most: int) -> int:
    """How many entries an answer may have at most (``?limit=``).

    Args:
        request: its query is read.
        default: where it names no limit.
        most: the highest limit that is accepted.

    Raises:
        InputError: not a number from 1 to ``most``.
    """
    text = request.query.get("limit", str(default))
    # ``int`` also takes digits of other scripts, and refuses thousands of digits with an error of
    # its own.
    plain = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not plain or not 1 <= int(text) <= most:
        raise InputError("limit", f"must be a whole number from 1 to {most}")
    return int(text)
