"""Remote control at the worker: requests by PUBLISH, replies through lists.

Source: kombu ``pidbox.py`` and ``matcher.py``. Nothing a request holds can hurt the worker: what
cannot be read is passed over (stock 5.3 goes deaf over a request without a method).
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.control.patterns import matches
from crucible.broker.redis.connection import COMMAND_TIMEOUT_S
from crucible.broker.redis.translation import FOREIGN, translate, translated
from crucible.broker.wire.bindings import bound_queues
from crucible.broker.wire.fanout import Envelope, unpack
from crucible.broker.wire.jsontypes import dumps, quote
from crucible.errors import MessageError
from crucible.redis_keys import REPLY_EXCHANGE, REPLY_TTL_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from crucible.broker.control.lamport import LamportClock
    from crucible.broker.redis.link import Link
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: Seconds between PINGs on a silent subscription, and for their answers.
PING_S = 2.0
#: Requests that may wait to be answered; what comes then is dropped, as by a worker that is gone.
MAX_REQUESTS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One remote control request meant for this worker.

    Attributes:
        method: name of the command.
        arguments: keyword arguments, as sent.
        ticket: put into the reply.
        reply_to: routing key of the asking client; None when it wants no reply.
    """

    method: str
    arguments: Any
    ticket: Any = None
    reply_to: str | None = None


def read_request(body: Any, node: str) -> Request | None:
    """The request in a decoded body; None when it is for others.

    Raises:
        MessageError: it is no request.
    """
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        raise MessageError("no method")
    if not _concerns(body, node):
        return None
    reply_to = body.get("reply_to")
    routing_key = reply_to.get("routing_key") if isinstance(reply_to, dict) else None
    return Request(
        body["method"],
        body.get("arguments") or {},
        body.get("ticket"),
        routing_key if isinstance(routing_key, str) else None,
    )


def _concerns(body: dict[str, Any], node: str) -> bool:
    destination, pattern, matcher = (body.get(k) for k in ("destination", "pattern", "matcher"))
    if destination:
        return isinstance(destination, (list, str)) and node in destination
    if pattern and matcher:
        return matches(node, pattern, matcher)
    return True


class Mailbox:
    """Listens for requests, and to other workers' events for the logical clock.

    Args:
        link: to the queue server.
        keys: key names.
        db: database number of the queue server, part of the channels' names.
        node: this worker's name.
        clock: its logical clock.
        connected: called each time the subscription stands; what was said before went unheard.

    Attributes:
        requests: heard and not answered yet.
    """

    def __init__(
        self,
        link: Link,
        keys: Keys,
        db: int,
        node: str,
        clock: LamportClock,
        connected: Callable[[], None],
    ) -> None:
        self.requests: asyncio.Queue[Request] = asyncio.Queue(MAX_REQUESTS)
        self._link = link
        self._keys = keys
        self._channel = keys.pidbox(db)
        self._worker_events = keys.event(db, "worker.*")
        self._node = node
        self._clock = clock
        self._connected = connected

    async def run(self, beat: Callable[[], None]) -> None:
        """Listen until cancelled.

        Raises:
            BrokerUnavailable: the connection is gone or silent; run again to connect anew.
        """
        try:
            async with self._link.connection(patient=False) as held:
                try:
                    await self._listen(held, beat)
                finally:
                    # Subscribed, it must not go back to the pool for commands.
                    await held.disconnect(nowait=True)
        except FOREIGN as error:
            raise translate(error) from error

    async def _listen(self, held: AbstractConnection, beat: Callable[[], None]) -> None:
        async with asyncio.timeout(PING_S):
            await held.send_command("PSUBSCRIBE", self._worker_events, check_health=False)
            await held.send_command("SUBSCRIBE", self._channel, check_health=False)
        asked = False
        while True:
            beat()
            try:
                async with asyncio.timeout(PING_S):
                    answer: Any = await held.read_response(
                        timeout=math.inf, disconnect_on_error=False
                    )
            except TimeoutError:
                if asked:
                    raise ConnectionError("no answer to PING") from None
                asked = True
                async with asyncio.timeout(PING_S):
                    await held.send_command("PING", check_health=False)
                continue
            asked = False
            if isinstance(answer, list) and len(answer) > 2:
                self._hear(answer)

    def _hear(self, answer: list[Any]) -> None:
        kind = answer[0]
        if kind == b"message":
            self._hear_request(answer[2])
        elif kind == b"pmessage":
            self._hear_event(answer[3])
        elif kind == b"subscribe":
            self._connected()

    def _hear_request(self, raw: bytes) -> None:
        try:
            body, headers = unpack(raw)
            self._clock.forward()
            self._clock.adjust(headers.get("clock"))
            request = read_request(body, self._node)
        except MessageError as error:
            logger.warning("a remote control request is passed over: %s", error)
            return
        if request is None:
            return
        try:
            self.requests.put_nowait(request)
        except asyncio.QueueFull:
            logger.warning("too many remote control requests; %s is dropped", request.method)

    def _hear_event(self, raw: bytes) -> None:
        """Stock's gossip keeps clocks together this way; our own events count too, as there."""
        try:
            body, _ = unpack(raw)
        except MessageError:
            return
        if isinstance(body, dict) and body.get("hostname") != self._node:
            self._clock.adjust(body.get("clock"))

    async def reply(self, request: Request, value: Any) -> None:
        """Send the reply to a request to the lists bound for it; none means nobody waits.

        Raises:
            BrokerError: it is not known to be sent.
            TypeError: JSON cannot carry it.
            ValueError: it is circular.
        """
        if request.reply_to is None:
            return
        headers = f'{{"ticket": {dumps(request.ticket)}, "clock": {self._clock.forward()}}}'
        message = Envelope(REPLY_EXCHANGE, request.reply_to, headers).pack(
            f"{{{quote(self._node)}: {dumps(value)}}}"
        )
        with translated():
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await self._push(request.reply_to, message)

    async def _push(self, routing_key: str, message: str) -> None:
        members = await self._link.call("SMEMBERS", self._keys.reply_binding)
        for queue in bound_queues(members, routing_key):
            reply_list = self._keys.step_list(queue, 0)
            async with self._link.connection() as held:
                # The client may have left since, and then nobody deletes the list.
                await self._link.calls(
                    held,
                    [("LPUSH", reply_list, message), ("EXPIRE", reply_list, REPLY_TTL_S)],
                )
