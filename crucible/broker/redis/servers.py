"""Opens the stores of the two servers of a task queue, for operators and remote control."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.broker.redis.store import RedisStore


@asynccontextmanager
async def open_stores(
    url: str, result_url: str | None, *, scripting: bool, name: str
) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """The stores of the queue server and of the result server, which may be one and the same.

    Nothing is connected before it is needed.

    Args:
        url: the queue server.
        result_url: the result server; None is the same.
        scripting: False for servers without Lua.
        name: shown in the servers' CLIENT LIST.

    Raises:
        ValueError: a URL cannot be used.
    """
    kind = LuaStore if scripting else TransactionStore
    async with AsyncExitStack() as stack:
        store = kind(await stack.enter_async_context(open_client(url, name=name)))
        results = store
        if result_url and result_url != url:
            results = kind(await stack.enter_async_context(open_client(result_url, name=name)))
        yield store, results
