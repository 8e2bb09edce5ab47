"""Learning at once that a list has something, without taking it and without polling.

``CLIENT TRACKING … BCAST`` makes the server report which keys with some prefix changed, by
whatever client and command: a stock producer's plain LPUSH is enough. Nothing is popped by waiting,
so nothing can be lost by a connection that dies while it waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis  # noqa: TC002
from redis.exceptions import RedisError

from crucible.broker.redis.translation import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

#: Seconds between pings, which find a link that died without being closed.
PING_S = 2.0
#: Seconds the answer to a ping may take.
_ANSWER_S = 1.5


def prefixes_of(names: Sequence[str]) -> list[str]:
    """Names without those that begin with another: the server refuses prefixes that overlap."""
    kept: list[str] = []
    for name in sorted(set(names)):
        if not kept or not name.startswith(kept[-1]):
            kept.append(name)
    return kept


class WakeUp:
    """Watches lists on a connection of its own.

    Args:
        client: of the queue server.
        list_keys: the lists.
    """

    def __init__(self, client: Redis, list_keys: Sequence[str]) -> None:
        self._client = client
        self._keys = {key.encode() for key in list_keys}
        self._prefixes = prefixes_of(list_keys)
        self._changed = asyncio.Event()
        self.armed = False

    def watch(self, list_keys: Sequence[str]) -> None:
        """Watch other lists; to be called while ``run`` does not run."""
        self._keys = {key.encode() for key in list_keys}
        self._prefixes = prefixes_of(list_keys)

    def clear(self) -> None:
        """Forget earlier changes; to be called before looking into the lists."""
        self._changed.clear()

    def ring(self) -> None:
        """End ``wait``."""
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when a list may have changed since ``clear``, or after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def run(self, beat: Callable[[], None]) -> None:
        """Listen until cancelled.

        Raises:
            BrokerUnavailable: the connection is gone or silent; run again to connect anew.
        """
        pool: Any = self._client.connection_pool
        connection = await self._connect(pool)
        protocol = connection.protocol
        try:
            await self._listen(connection, beat)
        except TimeoutError as error:
            # The other connections are as dead as this one; calls that wait on one fail now.
            await pool.disconnect()
            raise translate(error) from error
        except (RedisError, OSError) as error:
            raise translate(error) from error
        finally:
            self.armed = False
            self._changed.set()
            await connection.disconnect(nowait=True)
            connection.protocol = protocol
            await pool.release(connection)

    async def _connect(self, pool: Any) -> Any:
        try:
            async with asyncio.timeout(PING_S):
                connection = await pool.get_connection()
        except (RedisError, OSError, TimeoutError) as error:
            raise translate(error) from error
        parser = connection._parser  # noqa: SLF001 - redis-py has no public way to take pushes
        parser.set_invalidation_push_handler(self._heard)
        return connection

    async def _listen(self, connection: Any, beat: Callable[[], None]) -> None:
        async with asyncio.timeout(PING_S):
            await connection.send_command("HELLO", 3)
            await connection.read_response()
        # With protocol 3 set, redis-py hands over each push; else it reads the next one inside the
        # call for the one before, and a burst of a thousand ends in a RecursionError.
        connection.protocol = 3
        command: list[Any] = ["CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP"]
        for prefix in self._prefixes:
            command += ["PREFIX", prefix]
        async with asyncio.timeout(PING_S):
            await connection.send_command(*command)
            await connection.read_response()
        self.armed = True
        self._changed.set()  # what was pushed before tracking was on was not announced
        while True:
            beat()
            try:
                async with asyncio.timeout(PING_S):
                    while True:
                        await connection.read_response(
                            timeout=math.inf, push_request=True, disconnect_on_error=False
                        )
            except TimeoutError:
                await self._ping(connection)

    async def _ping(self, connection: Any) -> None:
        async with asyncio.timeout(_ANSWER_S):
            await connection.send_command("PING")
            while await connection.read_response(push_request=True) not in (b"PONG", "PONG"):
                pass

    async def _heard(self, push: Sequence[Any]) -> None:
        keys = push[1]
        if keys is None or not self._keys.isdisjoint(keys):  # None: the server was flushed
            self._changed.set()
