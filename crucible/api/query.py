"""What the handlers read from a query string."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.errors import InputError

if TYPE_CHECKING:
    from aiohttp import web


def limit_of(request: web.Request, default: int, most: int) -> int:
    """How many entries an answer may have at most.

    Args:
        request: its ``limit`` is read.
        default: where it has none.
        most: the highest it may be.

    Raises:
        InputError: not a number from 1 to ``most``.
    """
    text = request.query.get("limit", str(default))
    # Digits of other scripts are numbers to ``int``, and thousands of them are too many for it.
    plain = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not plain or not 1 <= int(text) <= most:
        raise InputError("limit", f"must be a whole number from 1 to {most}")
    return int(text)
