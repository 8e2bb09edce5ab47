"""What tasks that run for long need: a lease, and changes that nobody tears apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.redis.transactions import executed
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    #: Reads through the pipeline it is given, which watches what it names; returns what queues the
    #: writes, or None where there is nothing to change.
    Change = Callable[[Any], Awaitable[Callable[[], None] | None]]

#: How often a change is tried that another one came before.
_TRIES = 20


async def changed(client: Redis, change: Change) -> bool:
    """Whether a change was made; it is tried again where another one came before it.

    Raises:
        BrokerError: the server does not answer, or others change the same all the time.
    """
    for _ in range(_TRIES):
        with translated():
            # The stubs of redis-py describe blocking and asynchronous answers at once.
            pipe: Any = client.pipeline(transaction=True)
            async with pipe:
                write = await change(pipe)
                if write is None:
                    return False
                pipe.multi()
                write()
                if await executed(pipe) is not None:
                    return True
    raise BrokerUnavailable("it changes too often at this moment")


class Lease:
    """Which of several tasks does something. Raises ``BrokerError`` if the server does not answer.

    It keeps work from being done twice at once, no more: what is done twice all the same has to
    come to the same.

    Args:
        client: of the task queue server.
        key: its name there.
    """

    def __init__(self, client: Redis, key: str) -> None:
        self._client: Any = client
        self._key = key

    async def take(self, holder: str, ttl_s: int) -> bool:
        """Whether ``holder`` has it, from now on for ``ttl_s`` seconds."""
        with translated():
            if await self._client.set(self._key, holder, nx=True, ex=ttl_s):
                return True
            if await self._client.get(self._key) != holder.encode():
                return False
            return bool(await self._client.expire(self._key, ttl_s))

    async def release(self, holder: str) -> None:
        """Give it back."""
        with translated():
            if await self._client.get(self._key) == holder.encode():
                await self._client.delete(self._key)

    async def held(self) -> bool:
        """Whether anybody has it."""
        with translated():
            return bool(await self._client.exists(self._key))
