"""Reads the stream page by page, and notices where it was trimmed or lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from crucible.broker.redis.translation import translate, translated
from crucible.events.event import FORMAT, Event, decode_event
from crucible.events.position import START, Position

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Entries of one page.
PAGE = 500


class Entry(NamedTuple):
    """One entry of the stream.

    Attributes:
        position: its id.
        event: its content.
    """

    position: Position
    event: Event


@dataclass(frozen=True, slots=True)
class Page:
    """What follows a position.

    Attributes:
        entries: in order; entries of other versions are left out.
        position: where the next page begins.
        gap: entries that followed the position asked for may be gone: trimmed, or lost.
        first: the oldest entry when the page was read; None where there is none.
        last: the newest one that there ever was.
    """

    entries: Sequence[Entry]
    position: Position
    gap: bool
    first: Position | None
    last: Position

    @property
    def at_end(self) -> bool:
        """Nothing follows the page."""
        return self.position >= self.last


class EventReader:
    """Reads the stream.

    Args:
        client: of the bus.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._name = keys.events

    async def last(self) -> Position:
        """Where the stream ends now.

        Raises:
            BrokerError: the bus does not answer.
        """
        with translated():
            try:
                info = _fields(await self._client.xinfo_stream(self._name))
            except ResponseError as error:
                if "no such key" in str(error):
                    return START
                raise
        return Position.of_entry(info["last-generated-id"])

    async def page(self, after: Position, count: int = PAGE) -> Page:
        """The entries that follow ``after``.

        Raises:
            BrokerError: the bus does not answer.
        """
        with translated():
            # One transaction: nothing can be trimmed between the two answers.
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.xinfo_stream(self._name)
                pipe.xrange(self._name, f"({after}", "+", count)
                info, rows = await pipe.execute(raise_on_error=False)
        if isinstance(info, Exception):
            if "no such key" in str(info):
                # Nothing was ever written, or everything was lost.
                return Page((), START, gap=after != START, first=None, last=START)
            raise translate(info) from info
        if isinstance(rows, Exception):
            raise translate(rows) from rows
        state = _fields(info)
        last = Position.of_entry(state["last-generated-id"])
        first = Position.of_entry(state["first-entry"][0]) if state["first-entry"] else None
        # Servers before 7.0 do not say how many there ever were.
        trimmed = bool(state.get("entries-added", -1) != state["length"])
        return Page(
            entries_of(rows),
            Position.of_entry(rows[-1][0]) if rows else last,
            gap=_is_gap(after, first, last, trimmed=trimmed),
            first=first,
            last=last,
        )

    async def entry(self, position: Position) -> Entry | None:
        """The entry at a position; None where there is none, or none any more.

        Raises:
            BrokerError: the bus does not answer.
        """
        with translated():
            rows: Any = await self._client.xrange(self._name, str(position), str(position))
        found = entries_of(rows)
        return found[0] if found else None

    async def wait(self, after: Position, block_ms: int) -> bool:
        """Whether an entry follows ``after``, at the latest ``block_ms`` milliseconds from now.

        Raises:
            BrokerError: the bus does not answer.
        """
        with translated():
            found: Any = await self._client.xread({self._name: str(after)}, 1, block_ms)
        return bool(found)


def _is_gap(after: Position, first: Position | None, last: Position, *, trimmed: bool) -> bool:
    """Whether entries behind ``after`` are missing; the oldest are trimmed first."""
    if after > last:
        return True  # the bus lost its newest entries
    if first is not None and first <= after:
        return False
    # All entries are younger. Behind an entry there would be a gap, at the start only if some went.
    return trimmed or after != START


def entries_of(rows: Sequence[Any]) -> list[Entry]:
    """Entries as the bus returned them, without those of other versions."""
    return [Entry(Position.of_entry(entry_id), event) for entry_id, event in _read(rows)]


def events_of(rows: Sequence[Any]) -> list[Event]:
    """The events of entries, without those of other versions, and without their positions."""
    return [event for _, event in _read(rows)]


def _read(rows: Sequence[Any]) -> Iterator[tuple[bytes, Event]]:
    for entry_id, fields in rows:
        value = fields.get(FORMAT)
        if value is None:
            continue  # of a later version, for its readers
        try:
            event = decode_event(value)
        except msgspec.DecodeError as error:
            log.warning("entry %s of the event bus cannot be read: %s", entry_id, error)
            continue
        yield entry_id, event


def _fields(info: Any) -> dict[str, Any]:
    """The answer of XINFO, which redis-py may have made a dictionary already."""
    if isinstance(info, dict):
        return {name.decode() if isinstance(name, bytes) else name: v for name, v in info.items()}
    return {name.decode(): value for name, value in zip(info[::2], info[1::2], strict=True)}
