"""Commands packed once and sent as they are, over connections borrowed from a client's pool.

``Redis.execute_command`` spends more time around a command than a small command takes; on the hot
paths that time is most of what there is. Nothing is sent twice here.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import hiredis
from redis import exceptions as redis_errors

from crucible.broker.redis.connection import COMMAND_TIMEOUT_S, open_client
from crucible.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    from crucible.broker.redis.deadline import Deadline

    Argument = bytes | str | int

#: Seconds between attempts to connect while the deadline lasts.
_RETRY_PAUSE_S = 0.05
#: Errors after which another attempt may succeed.
_CONNECT_ERRORS = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)


def pack(command: Sequence[Argument]) -> bytes:
    """A command as it is sent."""
    parts: tuple[Any, ...] = tuple(command)
    packed: bytes = hiredis.pack_command(parts)
    return packed


class Link:
    """Sends commands and reads their replies.

    Deadlines are the caller's: cancelling a call drops the connection it used, so that a late
    reply is never taken for another command's.
    """

    def __init__(self, client: Redis) -> None:
        # Half of redis-py's pool has no annotations.
        self._pool: Any = client.connection_pool
        self._closed = False

    def close(self) -> None:
        """Give no more connections: the client below is about to close its own."""
        self._closed = True

    async def forget_idle(self) -> None:
        """Close idle connections: they lead to a server that is no master any more."""
        await self._pool.disconnect(inuse_connections=False)

    @asynccontextmanager
    async def connection(self, *, patient: bool = True) -> AsyncIterator[AbstractConnection]:
        """A connection, already open.

        Args:
            patient: try again until cancelled while the server cannot be reached. Nothing was
                sent by then, so this repeats nothing. Else one attempt, with a deadline.

        Raises:
            BrokerUnavailable: closed.
            redis.exceptions.RedisError: as redis-py has it; callers translate.
        """
        held = await self.acquire(patient=patient)
        try:
            yield held
        finally:
            await self.release(held)

    async def release(self, held: AbstractConnection) -> None:
        """Give back a connection from ``acquire``."""
        await self._pool.release(held)

    async def acquire(self, *, patient: bool = True) -> AbstractConnection:
        """A connection as ``connection`` yields it, to be given back with ``release``."""
        refusal: Exception | None = None
        while True:
            if self._closed:
                raise BrokerUnavailable("the publisher is closed")
            try:
                if refusal is not None:
                    await asyncio.sleep(_RETRY_PAUSE_S)
                if patient:
                    # Not a timeout of None: each one is a system call on Python 3.11 (getpid).
                    return cast("AbstractConnection", await self._pool.get_connection())
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    return cast("AbstractConnection", await self._pool.get_connection())
            except redis_errors.AuthenticationError:
                raise
            except asyncio.CancelledError as cancelled:
                # A deadline that passed while it was waited or tried again can say why.
                raise cancelled from refusal
            except _CONNECT_ERRORS as error:
                if not patient:
                    raise
                refusal = error

    async def call(self, *command: Argument, deadline: Deadline | None = None) -> Any:
        """One command's reply.

        Args:
            command: its words.
            deadline: the caller's, where the command's size is to decide with it.

        Raises:
            redis.exceptions.RedisError: as redis-py has it; callers translate.
        """
        async with self.connection() as held:
            packed = pack(command)
            if deadline is not None:
                deadline.sending(len(packed), held)
            await held.send_packed_command(packed)
            return await held.read_response()

    async def calls(
        self, held: AbstractConnection, commands: Sequence[Sequence[Argument]]
    ) -> list[Any]:
        """The replies to several commands sent together over ``held``.

        Raises:
            redis.exceptions.ResponseError: the first refusal; the commands after it have run, and
                all replies are read.
            redis.exceptions.RedisError: as redis-py has it; callers translate.
        """
        packed = b"".join(pack(command) for command in commands)
        await held.send_packed_command(packed)
        replies: list[Any] = []
        refusal: redis_errors.ResponseError | None = None
        for _ in commands:
            try:
                replies.append(await held.read_response())
            except redis_errors.ResponseError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return replies


class KeptConnection:
    """One connection of a link, kept from call to call.

    What a pool does around a small command costs as much as the command. For a caller that has one
    call under way at a time; deadlines are the caller's, as with ``Link``.

    Attributes:
        reached: the server may have received the command of the last call.
    """

    def __init__(self, link: Link) -> None:
        self.reached = False
        self._link = link
        self._held: AbstractConnection | None = None

    async def call(self, *command: Argument) -> Any:
        """One command's reply.

        Raises:
            BrokerUnavailable: closed.
            redis.exceptions.RedisError: as redis-py has it; callers translate.
        """
        self.reached = False
        held = self._held
        if held is None or not await _is_usable(held):
            await self.drop()
            held = self._held = await self._link.acquire()
        self.reached = True
        return await self._exchange(held, command)

    async def _exchange(self, held: AbstractConnection, command: Sequence[Argument]) -> Any:
        try:
            await held.send_packed_command(pack(command))
            return await held.read_response()
        except redis_errors.ResponseError:
            raise
        except BaseException:
            # Its reply may still come, and must not be taken for the next command's.
            await self.drop()
            raise

    async def follow(self, *command: Argument) -> Any:
        """One more reply over the connection of the call before, and over no other.

        Raises:
            redis.exceptions.ConnectionError: that connection is gone.
            redis.exceptions.RedisError: as redis-py has it; callers translate.
        """
        held = self._held
        if held is None:
            raise redis_errors.ConnectionError("the connection of the call before is gone")
        return await self._exchange(held, command)

    async def drop(self) -> None:
        """Close the connection; the next call opens another."""
        held, self._held = self._held, None
        if held is not None:
            await held.disconnect(nowait=True)
            await self._link.release(held)


async def _is_usable(held: AbstractConnection) -> bool:
    """Whether a connection that rested is still open and silent, as the pool asks of its own."""
    try:
        return held.is_connected and not await held.can_read()
    except _CONNECT_ERRORS:
        return False


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """A link to a server; nothing is connected before the first command.

    Raises:
        ValueError: the URL cannot be used.
    """
    async with open_client(url, command_timeout_s=None) as client:
        link = Link(client)
        try:
            yield link
        finally:
            link.close()
