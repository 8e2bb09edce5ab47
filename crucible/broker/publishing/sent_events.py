"""``task-sent`` events of a producer (celery's ``task_send_sent_event``).

They go in batches like a worker's; receivers take one or a list alike.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Self

from crucible.broker.control.event_stream import EventStream
from crucible.broker.control.lamport import LamportClock
from crucible.broker.wire.decode import decode
from crucible.broker.wire.jsontypes import dumps, quote
from crucible.broker.wire.timestamps import utc_text
from crucible.errors import BrokerUnavailable, MessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.publishing.group_commit import PublishResult, Sender, Write
    from crucible.broker.redis.link import Link
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: Seconds that sending the remaining events may take when the producer closes.
_CLOSE_S = 1.0
#: Seconds between attempts while the server is away.
_PAUSE_S = 0.5


class SentEvents:
    """A sender that sends an event for each message the server confirmed. Use it as a context.

    Args:
        sender: sends.
        link: to the queue server.
        keys: key names.
        db: database number of the queue server.
        node: who sends; ``gen<pid>@<host>``.
    """

    def __init__(self, sender: Sender, link: Link, keys: Keys, db: int, node: str) -> None:
        self._sender = sender
        self._stream = EventStream(link, keys, db, node, LamportClock())
        self._publishing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._publishing = asyncio.create_task(self._publish(), name="crucible-sent-events")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._stream.flushed()
        except TimeoutError:
            logger.warning(
                "closing with task-sent events unsent: they were not taken within %g s", _CLOSE_S
            )
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])

    async def _publish(self) -> None:
        while True:
            try:
                await self._stream.run(lambda: None)
            except BrokerUnavailable:
                await asyncio.sleep(_PAUSE_S)

    @property
    def reached(self) -> bool:
        """See ``group_commit.Sender``."""
        return self._sender.reached

    async def send(self, writes: Sequence[Write]) -> Sequence[PublishResult]:
        """One result a write; raises what the sender raises."""
        results = await self._sender.send(writes)
        for write, result in zip(writes, results, strict=True):
            for raw in write.messages[: result.pushed]:
                self._add(raw, write.queue)
        return results

    def _add(self, raw: bytes, queue: str) -> None:
        try:
            message = decode(raw, body=False)
        except MessageError as error:
            logger.warning("no event of a message that workers will refuse: %s", error)
            return
        get = message.headers.get
        self._stream.add(
            f', "uuid": {quote(message.id)}, "root_id": {dumps(get("root_id"))}, '
            f'"parent_id": {dumps(get("parent_id"))}, "name": {quote(message.task)}, '
            f'"args": {dumps(get("argsrepr"))}, "kwargs": {dumps(get("kwargsrepr"))}, '
            f'"retries": {message.retries}, "eta": {_moment(message.eta)}, '
            f'"expires": {_moment(message.expires)}, "queue": {quote(queue)}, '
            f'"exchange": {quote(message.exchange)}, "routing_key": {quote(message.queue)}, '
            f'"timestamp": {time.time()!r}, "type": "task-sent"}}'
        )


def _moment(epoch: float | None) -> str:
    return "null" if epoch is None else f'"{utc_text(epoch)}"'
