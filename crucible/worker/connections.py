"""The servers of a worker: one for queues, and perhaps another for results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crucible.broker.redis.connection import open_client, read_url
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AsyncExitStack

    from redis.asyncio import Redis

    from crucible.broker.redis.store import RedisStore

#: How messages are taken: by script, or by stock's blocking pop without any script.
ClaimMode = Literal["atomic", "brpop"]


@dataclass(frozen=True, slots=True)
class Servers:
    """What a worker talks to.

    Attributes:
        client: of the queue server.
        steps: atomic steps on it.
        results: steps on the result server; None where that is the queue server's own database.
    """

    client: Redis
    steps: RedisStore
    results: RedisStore | None


def _client(url: str) -> AbstractAsyncContextManager[Redis]:
    # Whoever sends has a deadline; one more for each command would only cost time.
    return open_client(url, command_timeout_s=None, name="worker")


def _steps(client: Redis, mode: ClaimMode) -> RedisStore:
    return LuaStore(client) if mode == "atomic" else TransactionStore(client)


async def open_servers(
    stack: AsyncExitStack, broker_url: str, result_url: str | None, mode: ClaimMode
) -> Servers:
    """Clients that ``stack`` closes; nothing is connected before the first command.

    Raises:
        ValueError: a URL cannot be used.
    """
    client = await stack.enter_async_context(_client(broker_url))
    results = None
    if result_url and read_url(result_url) != read_url(broker_url):
        other = await stack.enter_async_context(_client(result_url))
        results = _steps(other, mode)
    return Servers(client, _steps(client, mode), results)
