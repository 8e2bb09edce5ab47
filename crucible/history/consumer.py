"""A member of the historians' consumer group on the event bus."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from crucible.broker.redis.translation import translated
from crucible.events.position import START, Position
from crucible.events.reader import EventReader, events_of
from crucible.redis_keys import HISTORIAN_GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from crucible.events.event import Event
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Milliseconds after which a batch counts as left behind by a member that died. One that lives may
#: lose its batch to another so: it is written twice then, which changes nothing.
ABANDONED_MS = 15_000
#: Milliseconds after which a member without a batch is removed from the group.
_FORGOTTEN_MS = 3_600_000


class Taken(NamedTuple):
    """A batch that is to be written and acknowledged.

    Attributes:
        ids: of all entries, those included that cannot be read.
        events: in order.
    """

    ids: Sequence[bytes]
    events: Sequence[Event]

    @property
    def oldest_s(self) -> float:
        """When the oldest entry was appended, seconds since the epoch by the bus's clock."""
        return Position.of_entry(self.ids[0]).ms / 1000 if self.ids else time.time()


class HistoryConsumer:
    """Takes entries of the stream, each for one member of the group.

    Every method raises ``BrokerError`` while the bus does not answer.

    Args:
        client: of the bus.
        keys: key names.
        count: entries of one batch, at most.
    """

    def __init__(self, client: Redis, keys: Keys, count: int) -> None:
        self.name = f"historian-{secrets.token_hex(6)}"
        self._client = client
        self._stream = keys.events
        self._reader = EventReader(client, keys)
        self._count = count
        self._cursor: Any = "0-0"

    async def join(self) -> bool:
        """Make the group where there is none; whether entries were lost before it could read them.

        A new group begins with the oldest entry, so that nothing is missed that is still there.
        """
        with translated():
            try:
                await self._client.xgroup_create(self._stream, HISTORIAN_GROUP, "0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            groups: Any = await self._client.xinfo_groups(self._stream)
        ours = next((one for one in groups if one["name"] == HISTORIAN_GROUP.encode()), None)
        if ours is None:
            return False
        delivered = Position.of_entry(ours["last-delivered-id"])
        # A group that has read nothing begins with whatever there is.
        return delivered != START and (await self._reader.page(delivered, 1)).gap

    async def take(self, block_ms: int) -> Taken:
        """The next entries; none where nothing comes within ``block_ms`` milliseconds."""
        with translated():
            try:
                found: Any = await self._client.xreadgroup(
                    HISTORIAN_GROUP,
                    self.name,
                    {self._stream: ">"},
                    count=self._count,
                    block=block_ms,
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                # The bus has lost it, with the stream or with the newest part of its file.
                log.warning("the event bus has lost the historians' group; it is made again")
                found = None
        if found is None:
            await self.join()
        return _taken(_rows(found))

    async def adopt(self) -> Taken:
        """A batch that another member has left behind, or whose acknowledgement was lost."""
        with translated():
            try:
                answer: Any = await self._client.xautoclaim(
                    self._stream,
                    HISTORIAN_GROUP,
                    self.name,
                    ABANDONED_MS,
                    self._cursor,
                    count=self._count,
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                return Taken((), ())
        self._cursor = answer[0]
        return _taken(answer[1])

    async def acknowledge(self, taken: Taken) -> None:
        """What was taken is written."""
        with translated():
            await self._client.xack(self._stream, HISTORIAN_GROUP, *taken.ids)

    async def oldest_s(self) -> float | None:
        """When the oldest entry was appended that is not written, whoever has to write it.

        Seconds since the epoch by the bus's clock; None where all are written.
        """
        with translated():
            try:
                groups: Any = await self._client.xinfo_groups(self._stream)
                ours = next(one for one in groups if one["name"] == HISTORIAN_GROUP.encode())
                after = ours["last-delivered-id"].decode()
                waiting: Any = await self._client.xrange(self._stream, f"({after}", "+", 1)
                held: Any = None
                if ours["pending"]:
                    held = (await self._client.xpending(self._stream, HISTORIAN_GROUP))["min"]
            except (ResponseError, StopIteration):
                return None
        found = [held] if held else [row[0] for row in waiting]
        return Position.of_entry(found[0]).ms / 1000 if found else None

    async def leave(self) -> None:
        """Leave the group, unless a batch is not acknowledged, which would be lost with us."""
        await self._remove(lambda member: member["name"] == self.name.encode())

    async def tidy(self) -> None:
        """Remove members that died long ago and hold nothing."""
        await self._remove(lambda member: member["idle"] > _FORGOTTEN_MS)

    async def _remove(self, unwanted: Any) -> None:
        with translated():
            try:
                members: Any = await self._client.xinfo_consumers(self._stream, HISTORIAN_GROUP)
            except ResponseError:
                return
            for member in members:
                if unwanted(member) and member["pending"] == 0:
                    await self._client.xgroup_delconsumer(
                        self._stream, HISTORIAN_GROUP, member["name"]
                    )


def _rows(found: Any) -> list[Any]:
    """The entries of the one stream that was read, as either protocol version returns them."""
    if not found:
        return []
    if isinstance(found, dict):
        (pages,) = found.values()
        return [row for page in pages for row in page] if pages and _is_nested(pages) else pages
    return list(found[0][1])


def _is_nested(pages: Any) -> bool:
    return isinstance(pages[0], list) and bool(pages[0]) and not isinstance(pages[0][0], bytes)


def _taken(rows: Sequence[Any]) -> Taken:
    # An entry that was trimmed while a member held it has no fields (servers before 7.0).
    whole = [row for row in rows if row[1]]
    return Taken([row[0] for row in rows], events_of(whole))
