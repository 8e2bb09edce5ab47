"""What a list is asked for, and the cursors of its pages. Pure."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from crucible.errors import ParameterError
from crucible.history.labels import words_of

#: Words of one search, and fields of metadata.
MAX_WORDS = 10
_DIGEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which evaluations are asked for.

    Attributes:
        tenant: whose.
        status: any of these; none for all.
        verdict: any of these.
        language: of the program.
        queue: that they went to.
        since_ms: accepted then or later, milliseconds since the epoch.
        until_ms: accepted before.
        metadata: values by name.
        q: words that all have to be in the id or the values of the metadata; or an id.
    """

    tenant: str
    status: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    language: str | None = None
    queue: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    q: str | None = None

    def labels(self) -> list[tuple[str, str]]:
        """The labels that all have to be there.

        Raises:
            ParameterError: too many, or no word.
        """
        words = words_of(self.q) if self.q is not None else []
        if self.q is not None and not words:
            raise ParameterError("q", "has no word")
        if len(words) > MAX_WORDS:
            raise ParameterError("q", f"has more than {MAX_WORDS} words")
        if len(self.metadata) > MAX_WORDS:
            raise ParameterError("metadata", f"more than {MAX_WORDS} fields of it are asked for")
        return [*self.metadata, *(("", word) for word in words)]

    def digest(self) -> bytes:
        """A fingerprint: a cursor fits the list that it came with."""
        fields = [getattr(self, name) for name in self.__slots__]
        return hashlib.sha256(msgspec.json.encode(fields)).digest()[:_DIGEST]


class Place(NamedTuple):
    """Where a page ends: the list is ordered by these, from the highest to the lowest.

    Attributes:
        created_ms: when the last evaluation was accepted.
        eval_id: its id.
    """

    created_ms: int
    eval_id: str


def cursor_of(filters: Filters, place: Place) -> str:
    """The cursor behind a place."""
    packed = msgspec.msgpack.encode((filters.digest(), *place))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def place_of(filters: Filters, cursor: str) -> Place:
    """The inverse of ``cursor_of``.

    Raises:
        ParameterError: it is no cursor, or one of a list with other filters.
    """
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        digest, created_ms, eval_id = msgspec.msgpack.decode(packed, type=tuple[bytes, int, str])
    except (ValueError, msgspec.DecodeError):
        raise ParameterError("cursor", "is none of this API") from None
    if digest != filters.digest():
        raise ParameterError("cursor", "came with other filters: ask without it for a new list")
    return Place(created_ms, eval_id)
