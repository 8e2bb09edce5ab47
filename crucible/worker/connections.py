"""A worker's connections: to the queue server, and to the result server where that is another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import open_client, read_url
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AsyncExitStack

    from redis.asyncio import Redis

    from crucible.broker.redis.store import RedisStore
    from crucible.worker.config import ClaimMode, WorkerConfig


@dataclass(frozen=True, slots=True)
class Connections:
    """A worker's connections.

    Attributes:
        client: of the queue server.
        steps: atomic steps on it.
        other_results: steps on the result server; None where that is the queue server's own
            database.
    """

    client: Redis
    steps: RedisStore
    other_results: RedisStore | None

    @property
    def results(self) -> RedisStore:
        """The store on the result server, whichever that is."""
        return self.other_results or self.steps


def _client(url: str) -> AbstractAsyncContextManager[Redis]:
    # Every caller has a deadline of its own; one more for each command would only cost time.
    return open_client(url, command_timeout_s=None, name="worker")


def _steps(client: Redis, mode: ClaimMode) -> RedisStore:
    return LuaStore(client) if mode == "atomic" else TransactionStore(client)


async def open_connections(stack: AsyncExitStack, config: WorkerConfig) -> Connections:
    """Clients that ``stack`` closes; nothing is connected before the first command.

    Raises:
        ValueError: a URL cannot be used.
    """
    client = await stack.enter_async_context(_client(config.broker_url))
    other_results = None
    url = config.result_url
    if url and read_url(url) != read_url(config.broker_url):
        other = await stack.enter_async_context(_client(url))
        other_results = _steps(other, config.claim)
    return Connections(client, _steps(client, config.claim), other_results)
