"""Opaque page tokens: where a listing goes on, and what it was a listing of."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, TypeVar

import msgspec

from crucible.errors import ParameterError

if TYPE_CHECKING:
    from aiohttp import web

_Place = TypeVar("_Place")
#: Parameters that do not change what is listed.
_PAGING = frozenset({"cursor", "limit"})
_LONGEST = 512


class _Token(msgspec.Struct, array_like=True, frozen=True):
    filters: bytes
    place: msgspec.Raw


def next_cursor(request: web.Request, place: object) -> str:
    """The token of the page after the one that answers ``request``."""
    token = _Token(_filters_of(request), msgspec.Raw(msgspec.msgpack.encode(place)))
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode().rstrip("=")


def place_of(request: web.Request, kind: type[_Place]) -> _Place | None:
    """Where the page begins that is asked for; None for the first one.

    Raises:
        ParameterError: no token of this service, or of a listing with other filters.
    """
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        if len(text) > _LONGEST:
            raise ValueError
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = msgspec.msgpack.decode(raw, type=_Token)
        place = msgspec.msgpack.decode(token.place, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise ParameterError("cursor", "must be the cursor of the page before") from None
    if token.filters != _filters_of(request):
        raise ParameterError("cursor", "belongs to a listing with other filters")
    return place


def _filters_of(request: web.Request) -> bytes:
    filters = sorted(pair for pair in request.query.items() if pair[0] not in _PAGING)
    named = msgspec.msgpack.encode([request.path.removeprefix("/api/v1"), filters])
    return hashlib.blake2b(named, digest_size=8).digest()
