"""Parameters of a query string that several handlers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

#: Characters of a parameter's name that an error repeats.
PATH_SHOWN = 200


def check_query(request: web.Request, known: Collection[str], prefix: str = "") -> None:
    """Refuse what a query has and the route does not know, such as a misspelt name.

    Args:
        request: its query is read.
        known: names of the parameters of its route.
        prefix: what the names of further ones begin with; empty where there are none.

    Raises:
        ParameterError: naming the parameter.
    """
    if "?" not in request.raw_path:  # most have none, and parsing a URL is not cheap
        return
    for name in request.query:
        if name not in known and not (
            prefix and len(name) > len(prefix) and name.startswith(prefix)
        ):
            have = f"; have {', '.join(sorted(known))}" if known else "; there are none here"
            # A parameter may have no name (``?=x``), an error that names a field must.
            raise ParameterError(name[:PATH_SHOWN] or "?", f"is no parameter of this path{have}")
        if len(request.query.getall(name)) > 1:
            raise ParameterError(name, "must not be repeated")


def flag_of(request: web.Request, name: str) -> bool:
    """Whether a parameter is ``true``; False without it.

    Raises:
        ParameterError: neither ``true`` nor ``false``.
    """
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise ParameterError(name, "must be true or false")
    return text == "true"


def limit_of(request: web.Request, default: int, most: int) -> int:
    """How many entries an answer may have at most (``?limit=``).

    Args:
        request: its query is read.
        default: where it names no limit.
        most: the highest limit that is accepted.

    Raises:
        ParameterError: not a number from 1 to ``most``.
    """
    text = request.query.get("limit", str(default))
    # ``int`` also takes digits of other scripts, and refuses thousands of digits with an error of
    # its own.
    plain = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not plain or not 1 <= int(text) <= most:
        raise ParameterError("limit", f"must be a whole number from 1 to {most}")
    return int(text)
